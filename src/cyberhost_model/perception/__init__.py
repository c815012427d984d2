"""Key points, faces, hands, lips, people and shots in pictures."""
