"""The works that a methods paragraph may name, by the words that name them."""

from __future__ import annotations

from collections.abc import Iterable

REFERENCES = {
    "Balle et al. 2019": "J. Ballé, N. Johnston and D. Minnen. Integer networks for data compression with "
    "latent-variable models. ICLR, 2019.",
    "Chang et al. 2022": "H. Chang, H. Zhang, L. Jiang, C. Liu and W. T. Freeman. MaskGIT: Masked generative image "
    "transformer. CVPR, 2022.",
    "Davison and Hinkley 1997": "A. C. Davison and D. V. Hinkley. Bootstrap Methods and their Application. Cambridge "
    "University Press, 1997.",
    "Glorot and Bengio 2010": "X. Glorot and Y. Bengio. Understanding the difficulty of training deep feedforward "
    "neural networks. AISTATS, 2010.",
    "Esser et al. 2021": "P. Esser, R. Rombach and B. Ommer. Taming transformers for high-resolution image synthesis. "
    "CVPR, 2021.",
    "Goodfellow et al. 2014": "I. Goodfellow, J. Pouget-Abadie, M. Mirza, B. Xu, D. Warde-Farley, S. Ozair, A. "
    "Courville and Y. Bengio. Generative adversarial nets. NeurIPS, 2014.",
    "He et al. 2016": "K. He, X. Zhang, S. Ren and J. Sun. Deep residual learning for image recognition. CVPR, 2016.",
    "Ho and Salimans 2021": "J. Ho and T. Salimans. Classifier-free diffusion guidance. NeurIPS workshop on deep "
    "generative models, 2021.",
    "Ioffe and Szegedy 2015": "S. Ioffe and C. Szegedy. Batch normalization: Accelerating deep network training by "
    "reducing internal covariate shift. ICML, 2015.",
    "Jelinek and Mercer 1980": "F. Jelinek and R. L. Mercer. Interpolated estimation of Markov source parameters from "
    "sparse data. Workshop on Pattern Recognition in Practice, 1980.",
    "Isola et al. 2017": "P. Isola, J.-Y. Zhu, T. Zhou and A. A. Efros. Image-to-image translation with conditional "
    "adversarial networks. CVPR, 2017.",
    "Jordan et al. 2024": "K. Jordan et al. Muon: An optimizer for hidden layers in neural networks. 2024.",
    "Kingma and Ba 2015": "D. P. Kingma and J. Ba. Adam: A method for stochastic optimization. ICLR, 2015.",
    "Lee et al. 2022": "D. Lee, C. Kim, S. Kim, M. Cho and W.-S. Han. Autoregressive image generation using residual "
    "quantization. CVPR, 2022.",
    "Liu et al. 2025": "J. Liu et al. Muon is scalable for LLM training. arXiv:2502.16982, 2025.",
    "Loshchilov and Hutter 2019": "I. Loshchilov and F. Hutter. Decoupled weight decay regularization. ICLR, 2019.",
    "Miyato et al. 2018": "T. Miyato, T. Kataoka, M. Koyama and Y. Yoshida. Spectral normalization for generative "
    "adversarial networks. ICLR, 2018.",
    "Mentzer et al. 2023": "F. Mentzer, D. Minnen, E. Agustsson and M. Tschannen. Finite scalar quantization: VQ-VAE "
    "made simple. arXiv:2309.15505, 2023.",
    "Norkin and Birkbeck 2018": "A. Norkin and N. Birkbeck. Film grain synthesis for AV1 video codec. Data Compression "
    "Conference, 2018.",
    "Otsu 1979": "N. Otsu. A threshold selection method from gray-level histograms. IEEE Transactions on Systems, "
    "Man, and Cybernetics 9(1), 1979.",
    "Paszke et al. 2019": "A. Paszke et al. PyTorch: An imperative style, high-performance deep learning library. "
    "NeurIPS, 2019.",
    "Radford et al. 2016": "A. Radford, L. Metz and S. Chintala. Unsupervised representation learning with deep "
    "convolutional generative adversarial networks. ICLR, 2016.",
    "Reed et al. 2017": "S. Reed, A. van den Oord, N. Kalchbrenner, S. Gómez Colmenarejo, Z. Wang, Y. Chen, D. Belov "
    "and N. de Freitas. Parallel multiscale autoregressive density estimation. ICML, 2017.",
    "Shi et al. 2016": "W. Shi et al. Real-time single image and video super-resolution using an efficient sub-pixel "
    "convolutional neural network. CVPR, 2016.",
    "Su et al. 2021": "J. Su, Y. Lu, S. Pan, A. Murtadha, B. Wen and Y. Liu. RoFormer: Enhanced transformer with "
    "rotary position embedding. arXiv:2104.09864, 2021.",
    "van den Oord et al. 2016": "A. van den Oord, N. Kalchbrenner, O. Vinyals, L. Espeholt, A. Graves and K. "
    "Kavukcuoglu. Conditional image generation with PixelCNN decoders. NeurIPS, 2016.",
    "van den Oord et al. 2017": "A. van den Oord, O. Vinyals and K. Kavukcuoglu. Neural discrete representation "
    "learning. NeurIPS, 2017.",
    "Vaswani et al. 2017": "A. Vaswani, N. Shazeer, N. Parmar, J. Uszkoreit, L. Jones, A. N. Gomez, L. Kaiser and I. "
    "Polosukhin. Attention is all you need. NeurIPS, 2017.",
    "Wang 2018": "T.-C. Wang, M.-Y. Liu, J.-Y. Zhu, A. Tao, J. Kautz and B. Catanzaro. High-resolution image synthesis "
    "and semantic manipulation with conditional GANs. CVPR, 2018.",
    "Wang 2003": "Z. Wang, E. P. Simoncelli and A. C. Bovik. Multiscale structural similarity for image quality "
    "assessment. Asilomar Conference on Signals, Systems and Computers, 2003.",
    "Wang 2004": "Z. Wang, A. C. Bovik, H. R. Sheikh and E. P. Simoncelli. Image quality assessment: From error "
    "visibility to structural similarity. IEEE Transactions on Image Processing 13(4), 2004.",
    "Witten and Bell 1991": "I. H. Witten and T. C. Bell. The zero-frequency problem. IEEE Transactions on "
    "Information Theory 37(4), 1991.",
    "Xue 2014": "W. Xue, L. Zhang, X. Mou and A. C. Bovik. Gradient magnitude similarity deviation: A highly "
    "efficient perceptual image quality index. IEEE Transactions on Image Processing 23(2), 2014.",
    "Yu et al. 2021": "J. Yu et al. Vector-quantized image modeling with improved VQGAN. arXiv:2110.04627, 2021.",
    "Zeghidour et al. 2021": "N. Zeghidour, A. Luebs, A. Omran, J. Skoglund and M. Tagliasacchi. SoundStream: An "
    "end-to-end neural audio codec. arXiv:2107.03312, 2021.",
    "Zhang et al. 2019": "H. Zhang, Y. N. Dauphin and T. Ma. Fixup initialization: Residual learning without "
    "normalization. ICLR, 2019.",
    "Zhao et al. 2017": "H. Zhao, O. Gallo, I. Frosio and J. Kautz. Loss functions for image restoration with neural "
    "networks. IEEE Transactions on Computational Imaging 3(1), 2017.",
}


def references(texts: Iterable[str]) -> list[str]:
    """Those that are named, in the order of their authors."""
    text = " ".join(texts)
    return [full for name, full in sorted(REFERENCES.items(), key=lambda item: item[0].lower()) if name in text]
