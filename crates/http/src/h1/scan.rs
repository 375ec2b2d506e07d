//! Finding the end of a head without searching the same bytes twice.

/// Remembers how far a buffer was searched for the end of the head, so that a peer which sends a byte at a time costs
/// as much as one which sends all at once. One per connection and direction; parsers reset it with each message.
#[derive(Debug, Clone, Default)]
pub struct HeadScanner {
    searched: usize,
}

impl HeadScanner {
    /// A scanner at the start of a message.
    pub const fn new() -> Self {
        HeadScanner { searched: 0 }
    }

    /// Starts over, for a new message or a buffer whose start moved.
    pub fn reset(&mut self) {
        self.searched = 0;
    }
}
