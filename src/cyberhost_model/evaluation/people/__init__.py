"""Metrics of people: identity (CSIM), lips (SyncC, SyncD), key points (AKD), hands (HKC, HKV), and the networks they see and hear with.

    csim.py, sync.py, akd.py, hands.py     the metrics; each has `build(context)`
    identity_features.py, sync_features.py, keypoint_features.py     what they read of a video's frames
    syncnet.py, s3fd.py, scrfd.py, arcface.py     networks; DWPose and the embedded detector are in `conditions`
"""
