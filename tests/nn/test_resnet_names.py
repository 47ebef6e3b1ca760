"""The letters of a ResNet's blocks."""

from mrcnn.nn.resnet_names import block_letters


def test_blocks_after_z_have_two_letters():
    letters = [block_letters(block) for block in range(36)]  # of ResNet152's stage 4
    assert letters[:3] == ["a", "b", "c"] and letters[22] == "w"  # the last of ResNet101
    assert letters[25:] == ["z", "aa", "ab", "ac", "ad", "ae", "af", "ag", "ah", "ai", "aj"]
    assert block_letters(26 + 26 * 26 - 1) == "zz"
