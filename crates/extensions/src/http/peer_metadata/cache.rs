//! Peers that a worker has seen, so that a header is decoded once and not with every request.

use crate::base64;
use crate::istio::workload::{Labels, Workload};
use hashbrown::HashMap;
use std::cell::RefCell;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Most peers that are remembered (Envoy's `max_peer_cache_size`).
const MOST: usize = 500;
/// Most bytes of a header that is remembered.
const LONGEST: usize = 16 * 1024;

/// A service of each worker. Peers are found by the whole of what they say: an id alone would let one speak for another.
#[derive(Default)]
pub(super) struct PeerCache {
    peers: RefCell<HashMap<Box<[u8]>, Found>>,
}

/// By the labels that are asked for.
type Found = (u64, Option<Arc<Workload>>);

/// Tells sets of labels apart.
pub(super) fn digest(labels: &Labels) -> u64 {
    let mut hasher = DefaultHasher::new();
    labels.hash(&mut hasher);
    hasher.finish()
}

impl PeerCache {
    /// The workload that a header names; none if it can't be understood.
    pub(super) fn find(&self, header: &[u8], labels: &Labels, digest: u64) -> Option<Arc<Workload>> {
        let mut peers = self.peers.borrow_mut();
        if let Some((of, found)) = peers.get(header)
            && *of == digest
        {
            return found.clone();
        }
        let bytes = base64::decode(header);
        let found = bytes.and_then(|bytes| Workload::from_wire(&bytes, labels)).map(Arc::new);
        if header.len() <= LONGEST {
            if peers.len() >= MOST {
                peers.clear();
            }
            peers.insert(header.into(), (digest, found.clone()));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded() {
        let cache = PeerCache::default();
        let labels = Labels::new();
        for number in 0..2 * MOST {
            let workload = Workload { name: number.to_string().into(), ..Workload::default() };
            let header = base64::encode(&workload.to_wire());
            assert_eq!(cache.find(&header, &labels, 0).as_deref(), Some(&workload));
            assert_eq!(cache.find(&header, &labels, 0).as_deref(), Some(&workload));
        }
        assert!(cache.peers.borrow().len() <= MOST);
        assert_eq!(cache.find(b"$$", &labels, 0), None);
    }
}
