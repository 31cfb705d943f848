"""Readers of data sets: folders of images, manifests, and labels in COCO's and YOLO's formats.

Each gives an item for every image, and a problem for everything that is none, in the order of the data set; a
fault in one line, image or annotation stops no other. They read from open files and know no place: the same
readers serve a folder of this machine and a bucket.
"""
