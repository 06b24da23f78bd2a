//! Counts the gRPC messages of a body as its parts pass. A message is a flag byte, a four-byte length and the data.

/// Counter of the messages of one body.
#[derive(Debug, Clone, Copy, Default)]
pub struct GrpcMessages {
    /// Bytes of the current prefix that have passed.
    prefix: u8,
    length: u32,
    /// Bytes of the current message that are still to come.
    left: u32,
    whole: u32,
}

impl GrpcMessages {
    /// Reads the next part of the body.
    pub fn read(&mut self, mut piece: &[u8]) {
        while let Some((&byte, rest)) = piece.split_first() {
            if self.left > 0 {
                let taken = piece.len().min(self.left as usize);
                self.left -= u32::try_from(taken).unwrap_or(self.left);
                piece = piece.get(taken..).unwrap_or_default();
                self.whole += u32::from(self.left == 0);
                continue;
            }
            piece = rest;
            self.length = if self.prefix == 0 { 0 } else { self.length << 8 | u32::from(byte) };
            self.prefix += 1;
            if self.prefix == 5 {
                (self.prefix, self.left) = (0, self.length);
                self.whole += u32::from(self.left == 0);
            }
        }
    }

    /// Number of complete messages.
    pub fn whole(&self) -> u32 {
        self.whole
    }

    /// Whether the body is between two messages or at its start.
    pub fn is_between(&self) -> bool {
        self.prefix == 0 && self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(lengths: &[usize]) -> Vec<u8> {
        let message = |length: &usize| {
            let prefix = u32::try_from(*length).unwrap().to_be_bytes();
            [&[0], &prefix[..], &vec![7; *length]].concat()
        };
        lengths.iter().flat_map(message).collect()
    }

    proptest! {
        #[test]
        fn messages_are_counted_wherever_the_pieces_end(
            lengths in proptest::collection::vec(0usize..400, 0..6),
            piece in 1usize..500,
            cut in 0usize..5,
        ) {
            let body = body(&lengths);
            let mut messages = GrpcMessages::default();
            body.chunks(piece).for_each(|piece| messages.read(piece));
            prop_assert_eq!(messages.whole() as usize, lengths.len());
            prop_assert!(messages.is_between());
            messages.read(&[0, 0, 0, 0, 9][..cut]);
            prop_assert_eq!(messages.is_between(), cut == 0);
        }

        #[test]
        fn no_bytes_make_it_panic(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..9)) {
            let mut messages = GrpcMessages::default();
            pieces.iter().for_each(|piece| messages.read(piece));
        }
    }
}
