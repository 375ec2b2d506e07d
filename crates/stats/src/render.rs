//! Turns stats into text.
