"""Operations with an implementation per device: attention, convolution and Winograd's algorithm."""
