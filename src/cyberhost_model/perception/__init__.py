"""What is seen in a picture: key points, faces, hands, lips, people, shots."""
