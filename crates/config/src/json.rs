//! Wire bytes to JSON, as `/config_dump` shows them.

mod string;

pub use string::write_string;
