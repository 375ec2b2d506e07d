//! The lines that a proxy appends to an access-log file, read piece by piece.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

/// A reader that remembers how far it has come. A file that does not exist yet is empty.
pub struct LogTail {
    path: PathBuf,
    offset: u64,
}

impl LogTail {
    /// Starts at the beginning of `path`.
    pub fn new(path: PathBuf) -> Self {
        Self { path, offset: 0 }
    }

    /// The complete lines written since the last call. A last line without its newline is left for the next call.
    pub fn take(&mut self) -> Vec<String> {
        let mut bytes = Vec::new();
        let Ok(mut file) = File::open(&self.path) else { return Vec::new() };
        if file.seek(SeekFrom::Start(self.offset)).is_err() || file.read_to_end(&mut bytes).is_err() {
            return Vec::new();
        }
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        self.offset += whole as u64;
        bytes.truncate(whole);
        String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
    }
}
