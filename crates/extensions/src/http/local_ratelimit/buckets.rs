//! The buckets of a limit: the default one, and those of descriptors.

use crate::network::TokenBucket;
use nuncio_route::DescriptorEntry;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// All buckets of a limit.
pub(super) struct Buckets {
    /// None: what no descriptor limits is not limited.
    pub default: Option<Arc<TokenBucket>>,
    /// `descriptors`.
    pub descriptors: Box<[DescriptorBucket]>,
    /// `always_consume_default_token_bucket`.
    pub always_default: bool,
}

/// A descriptor that requests may have, and its bucket.
pub(super) struct DescriptorBucket {
    /// Keys and values; no value stands for any, each with a bucket of its own.
    pub entries: Box<[Entry]>,
    pub bucket: Arc<TokenBucket>,
    /// `shadow_mode`: requests beyond the limit are counted only.
    pub shadow: bool,
    /// The buckets of values that the configuration leaves open.
    pub dynamic: Option<Dynamic>,
}

/// Key and value.
pub(super) type Entry = (Box<str>, Option<Box<str>>);

/// Buckets by value, the most recently used last; at most so many.
pub(super) struct Dynamic {
    most: usize,
    known: Mutex<VecDeque<Known>>,
}

/// Values, and their bucket.
type Known = (Box<[Box<str>]>, Arc<TokenBucket>);

/// What the buckets say of a request.
pub(super) struct Verdict {
    pub allowed: bool,
    /// It is over the limit of a descriptor in shadow mode.
    pub shadowed: bool,
    /// The bucket that decided.
    pub bucket: Option<Arc<TokenBucket>>,
}

impl Dynamic {
    /// None yet, and never more than `most`.
    pub(super) fn new(most: usize) -> Dynamic {
        Dynamic { most: most.max(1), known: Mutex::default() }
    }

    fn bucket(&self, values: Box<[Box<str>]>, like: &TokenBucket) -> Arc<TokenBucket> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let at = known.iter().position(|(of, _)| *of == values);
        let entry = match at.and_then(|at| known.remove(at)) {
            Some(entry) => entry,
            None => {
                if known.len() >= self.most {
                    known.pop_front();
                }
                (values, Arc::new(like.another()))
            }
        };
        let bucket = Arc::clone(&entry.1);
        known.push_back(entry);
        bucket
    }
}

impl DescriptorBucket {
    fn matches(&self, descriptor: &[DescriptorEntry<'_>]) -> bool {
        descriptor.len() == self.entries.len()
            && self.entries.iter().zip(descriptor).all(|((key, value), (found_key, found))| {
                **key == **found_key && value.as_ref().is_none_or(|value| **value == **found)
            })
    }

    fn bucket(&self, descriptor: &[DescriptorEntry<'_>]) -> Arc<TokenBucket> {
        match &self.dynamic {
            Some(dynamic) => {
                dynamic.bucket(descriptor.iter().map(|(_, value)| Box::from(&**value)).collect(), &self.bucket)
            }
            None => Arc::clone(&self.bucket),
        }
    }
}

impl Buckets {
    /// The same buckets, full and without what they remember.
    pub(super) fn another(&self) -> Buckets {
        let descriptors = self.descriptors.iter().map(|descriptor| DescriptorBucket {
            entries: descriptor.entries.clone(),
            bucket: Arc::new(descriptor.bucket.another()),
            shadow: descriptor.shadow,
            dynamic: descriptor.dynamic.as_ref().map(|dynamic| Dynamic::new(dynamic.most)),
        });
        Buckets {
            default: self.default.as_ref().map(|bucket| Arc::new(bucket.another())),
            descriptors: descriptors.collect(),
            always_default: self.always_default,
        }
    }

    /// Whether there is nothing to count.
    pub(super) fn is_empty(&self) -> bool {
        self.default.is_none() && self.descriptors.is_empty()
    }

    /// Takes a token from every bucket that concerns a request with these descriptors, the slowest first, until one is
    /// empty.
    pub(super) fn take(&self, descriptors: &[Vec<DescriptorEntry<'_>>], now: Instant) -> Verdict {
        let exact = |descriptor: &&DescriptorBucket| descriptor.dynamic.is_none();
        let mut matched: Vec<(Arc<TokenBucket>, bool)> = Vec::new();
        for wanted in descriptors {
            let mut candidates = self.descriptors.iter().filter(|known| known.matches(wanted));
            let found = candidates.clone().find(exact).or_else(|| candidates.next());
            matched.extend(found.map(|known| (known.bucket(wanted), known.shadow)));
        }
        matched.sort_by(|(a, _), (b, _)| a.rate().total_cmp(&b.rate()));
        for (bucket, shadow) in &matched {
            if !bucket.take(now) {
                return Verdict { allowed: *shadow, shadowed: *shadow, bucket: Some(Arc::clone(bucket)) };
            }
        }
        let first = matched.into_iter().next().map(|(bucket, _)| bucket);
        if let Some(default) = self.default.as_ref().filter(|_| first.is_none() || self.always_default) {
            let allowed = default.take(now);
            let bucket = first.filter(|_| allowed).unwrap_or_else(|| Arc::clone(default));
            return Verdict { allowed, shadowed: false, bucket: Some(bucket) };
        }
        Verdict { allowed: true, shadowed: false, bucket: first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn bucket(max: u32) -> Arc<TokenBucket> {
        Arc::new(TokenBucket::new(max, max, Duration::from_secs(1000)))
    }

    fn descriptor(value: Option<&str>, max: u32, shadow: bool) -> DescriptorBucket {
        let dynamic = value.is_none().then(|| Dynamic::new(2));
        let entries = [("user".into(), value.map(Into::into))].into();
        DescriptorBucket { entries, bucket: bucket(max), shadow, dynamic }
    }

    fn allowed(buckets: &Buckets, user: &str) -> bool {
        let now = tokio::time::Instant::now().into_std();
        let descriptors = if user.is_empty() { vec![] } else { vec![vec![("user", user.into())]] };
        buckets.take(&descriptors, now).allowed
    }

    #[test]
    fn descriptors_have_buckets_of_their_own() {
        let buckets = Buckets {
            default: Some(bucket(3)),
            descriptors: [descriptor(Some("a"), 1, false), descriptor(None, 2, false)].into(),
            always_default: false,
        };
        assert_eq!([allowed(&buckets, "a"), allowed(&buckets, "a")], [true, false]);
        assert_eq!([(); 3].map(|()| allowed(&buckets, "b")), [true, true, false]);
        assert_eq!([allowed(&buckets, "c"), allowed(&buckets, "d")], [true, true]);
        // The buckets of two values are kept: that of b was forgotten.
        assert!(allowed(&buckets, "b"));
        assert_eq!([(); 4].map(|()| allowed(&buckets, "")), [true, true, true, false]);
        let fresh = buckets.another();
        assert!(allowed(&fresh, "a") && allowed(&fresh, ""));
    }

    #[test]
    fn the_default_bucket_counts_all_where_it_shall() {
        let buckets = Buckets {
            default: Some(bucket(2)),
            descriptors: [descriptor(Some("a"), 5, false)].into(),
            always_default: true,
        };
        assert_eq!([(); 3].map(|()| allowed(&buckets, "a")), [true, true, false]);
    }

    #[test]
    fn shadows_limit_nothing() {
        let buckets =
            Buckets { default: None, descriptors: [descriptor(Some("a"), 1, true)].into(), always_default: true };
        assert_eq!([(); 3].map(|()| allowed(&buckets, "a")), [true; 3]);
        let now = tokio::time::Instant::now().into_std();
        assert!(buckets.take(&[vec![("user", "a".into())]], now).shadowed);
    }
}
