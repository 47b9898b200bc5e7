"""What a tokenizer's reconstruction misses of the very pixels, as few bytes, in integers that every machine has alike.

Each pixel is predicted from the reconstruction around it, from those of its slice that are decoded already and from
those of the slice before; how far the prediction has missed near it says which table of errors is used. What is
particular to an image (weights, tables) is fitted where it is packed, and stands in the file: nothing is learned from
other images, so any scanner and any bit depth will do.

Sources: X. Wu and N. Memon, Context-Based, Adaptive, Lossless Image Coding, 1997 (contexts of errors); B. Meyer and
P. Tischer, TMW: A New Method for Lossless Image Compression, 1997, and I. Matsuda et al., Lossless Coding Using
Variable Block-Size Adaptive Prediction Optimized for Each Image, 2005 (predictors fitted to the image, by class). Here
the reconstruction is seen on all sides of a pixel, and pixels of a wave that runs through all slices are decoded at a
time.
"""
