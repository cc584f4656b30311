"""Operations whose form depends on the device: attention, convolution, Winograd's products."""
