//! Input that is the same in every run.

/// An xorshift generator.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new() -> Self {
        Self(0x9E37_79B9_7F4A_7C15)
    }

    /// A number from 0 to `end`, without `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % end
    }

    /// Up to `longest` bytes out of `alphabet`.
    pub(super) fn bytes(&mut self, alphabet: &[u8], longest: usize) -> Vec<u8> {
        let len = self.below(longest + 1);
        (0..len).map(|_| alphabet[self.below(alphabet.len())]).collect()
    }

    /// Up to `longest` bytes, most of which mean something to somebody.
    pub(super) fn hostile(&mut self, longest: usize) -> Vec<u8> {
        let mut bytes = self.bytes(b"aA23%:{}*?[]\\^- \0\n\"\xff\xc3\xa9", longest);
        if let Some(first) = bytes.first_mut().filter(|_| self.below(4) == 0) {
            *first = u8::try_from(self.below(256)).expect("a byte");
        }
        bytes
    }
}
