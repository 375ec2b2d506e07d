//! Finding the end of a head without searching the same bytes twice.

/// Remembers how far a buffer was searched for the end of the head, so that a peer which sends a byte at a time costs
/// as much as one which sends all at once. One per connection and direction; parsers reset it with each message.
#[derive(Debug, Clone, Default)]
pub struct HeadScanner {
    /// Bytes searched for an empty line.
    searched: usize,
    /// Bytes of empty lines before the message.
    blank: usize,
    /// Bytes that were there when the head was last parsed.
    parsed: usize,
}

impl HeadScanner {
    /// A scanner at the start of a message.
    pub const fn new() -> Self {
        HeadScanner { searched: 0, blank: 0, parsed: 0 }
    }

    /// Starts over, for a new message or a buffer whose start moved.
    #[inline]
    pub fn reset(&mut self) {
        *self = HeadScanner::new();
    }

    /// Whether parsing may bring something new: at the first look, when the end of the head came into sight, and each
    /// time that the bytes doubled, so that nonsense is refused before it has filled the buffer.
    #[inline]
    pub(super) fn is_worth_parsing(&mut self, buf: &[u8]) -> bool {
        let resumed = self.searched != 0;
        // The empty line may have begun up to two bytes before the place where the last search ended.
        let from = self.searched.saturating_sub(2).max(self.blank);
        self.searched = buf.len();
        let worth = !resumed || buf.len() / 2 >= self.parsed || buf.get(from..).is_some_and(has_empty_line);
        if worth {
            self.parsed = buf.len();
        }
        worth
    }

    /// Steps over empty lines before a request and returns their length; `None` for an empty line that is not CRLF.
    ///
    /// RFC 9112 §2.2: "a server that is expecting to receive and parse a request-line SHOULD ignore at least one empty
    /// line (CRLF) received prior to the request-line."
    #[inline]
    pub(super) fn skip_blank(&mut self, buf: &[u8]) -> Option<usize> {
        loop {
            match buf.get(self.blank..) {
                Some([b'\r', b'\n', ..]) => self.blank += 2,
                Some([b'\r', _, ..] | [b'\n', ..]) => return None,
                _ => return Some(self.blank),
            }
        }
    }
}

/// Whether a line end is followed by another, with or without CR: a bare LF is refused by the parser, which must
/// therefore see it.
fn has_empty_line(buf: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', buf).any(|at| matches!(buf.get(at + 1..), Some([b'\n', ..] | [b'\r', b'\n', ..])))
}
