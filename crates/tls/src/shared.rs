//! Things made from the same bytes exist once in the process: 2,500 clusters with one trust store hold it once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

/// A SHA-256 of everything that the thing is made of.
pub(crate) type Digest = [u8; 32];

/// A table of what is in use.
pub(crate) struct Shared<T> {
    table: OnceLock<Mutex<HashMap<Digest, Weak<T>>>>,
}

impl<T> Shared<T> {
    pub(crate) const fn new() -> Self {
        Shared { table: OnceLock::new() }
    }

    /// The thing made of what `digest` is the digest of.
    pub(crate) fn get_or_make<E>(&self, digest: Digest, make: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E> {
        let table = self.table.get_or_init(Mutex::default);
        // The lock is held while making, so that two threads don't make the same thing.
        let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = table.get(&digest).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let made = Arc::new(make()?);
        if table.len() == table.capacity() {
            table.retain(|_, known| known.strong_count() > 0);
        }
        table.insert(digest, Arc::downgrade(&made));
        Ok(made)
    }
}

/// Feeds parts into a digest so that their borders count.
pub(crate) struct Hasher(aws_lc_rs::digest::Context);

impl Hasher {
    pub(crate) fn new(purpose: &str) -> Self {
        let mut hasher = Hasher(aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256));
        hasher.part(purpose.as_bytes());
        hasher
    }

    pub(crate) fn part(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    pub(crate) fn finish(self) -> Digest {
        let mut out = [0; 32];
        out.copy_from_slice(self.0.finish().as_ref());
        out
    }
}
