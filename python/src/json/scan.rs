//! How far the text of a string stands for itself.

/// Whether a byte of a string does not stand for itself.
pub fn is_odd(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

const ONES: u64 = u64::MAX / 255;
const TOPS: u64 = ONES * 0x80;

/// Marks the bytes of a word that are odd. The lowest mark is true; others may be no more than its carry.
fn marks(word: u64) -> u64 {
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let quote = zero(word ^ (ONES * u64::from(b'"')));
    let slash = zero(word ^ (ONES * u64::from(b'\\')));
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (quote | slash | control) & TOPS
}

/// How many bytes at the beginning stand for themselves.
pub fn plain(text: &[u8]) -> usize {
    let (words, rest) = text.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let marks = marks(u64::from_le_bytes(*word));
        if marks != 0 {
            return 8 * i + marks.trailing_zeros() as usize / 8;
        }
    }
    let odd = rest.iter().position(|byte| is_odd(*byte));
    8 * words.len() + odd.unwrap_or(rest.len())
}
