//! Scopes: a name prefix, and the tags that are known when it is made.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::codes::CodeCounters;
use crate::group::{Descriptor, Group, Kind, Unit};
use crate::handle::{Counter, Gauge, Histogram, TextReadout};
use crate::store::StoreInner;

/// A prefix for names, `cluster.foo`, without a dot at the end. Clones share it.
#[derive(Clone)]
pub struct Scope {
    pub(crate) inner: Arc<ScopeInner>,
}

pub(crate) struct ScopeInner {
    pub(crate) store: Arc<StoreInner>,
    pub(crate) prefix: Box<str>,
    /// Given by the maker instead of found in the name.
    pub(crate) explicit: Option<Box<ExplicitTags>>,
    dynamic: Mutex<Option<Box<Dynamic>>>,
}

/// Tags that the maker of a scope knows.
pub(crate) struct ExplicitTags {
    /// The prefix without the values of the tags.
    pub(crate) extracted: Box<str>,
    pub(crate) tags: TagSet,
}

/// Tags that several scopes share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagSet(pub(crate) Arc<[(Box<str>, Box<str>)]>);

impl TagSet {
    /// These tags, in this order.
    pub fn new(tags: &[(&str, &str)]) -> TagSet {
        TagSet(tags.iter().map(|&(name, value)| (name.into(), value.into())).collect())
    }
}

type Dynamic = HashMap<(Kind, Box<str>), Arc<Group>>;

static ONE_COUNTER: Descriptor = Descriptor { counters: &[""], ..Descriptor::EMPTY };
static ONE_GAUGE: Descriptor = Descriptor { gauges: &[""], ..Descriptor::EMPTY };
static ONE_TEXT: Descriptor = Descriptor { text: &[""], ..Descriptor::EMPTY };
static ONE_HISTOGRAM: [Descriptor; 5] = [
    one_histogram(Unit::Unspecified),
    one_histogram(Unit::Milliseconds),
    one_histogram(Unit::Microseconds),
    one_histogram(Unit::Bytes),
    one_histogram(Unit::Percent),
];

const fn one_histogram(unit: Unit) -> Descriptor {
    let histograms: &'static [(&'static str, Unit)] = match unit {
        Unit::Unspecified => &[("", Unit::Unspecified)],
        Unit::Milliseconds => &[("", Unit::Milliseconds)],
        Unit::Microseconds => &[("", Unit::Microseconds)],
        Unit::Bytes => &[("", Unit::Bytes)],
        Unit::Percent => &[("", Unit::Percent)],
    };
    Descriptor { histograms, ..Descriptor::EMPTY }
}

impl ScopeInner {
    pub(crate) fn new(store: Arc<StoreInner>, prefix: &str, tags: &[(&str, &str)]) -> Self {
        let prefix = prefix.trim_matches('.');
        let explicit = (!tags.is_empty())
            .then(|| ExplicitTags { extracted: without_values(prefix, tags).into(), tags: TagSet::new(tags) });
        Self::with_explicit(store, prefix, explicit)
    }

    fn with_explicit(store: Arc<StoreInner>, prefix: &str, explicit: Option<ExplicitTags>) -> Self {
        Self { store, prefix: prefix.into(), explicit: explicit.map(Box::new), dynamic: Mutex::new(None) }
    }
}

/// A prefix without the segments that are the values of these tags.
fn without_values(prefix: &str, tags: &[(&str, &str)]) -> String {
    let mut dotted = format!(".{prefix}.");
    for (_, value) in tags {
        dotted = dotted.replacen(&format!(".{}.", sanitize(value)), ".", 1);
    }
    dotted.trim_matches('.').to_owned()
}

impl Scope {
    /// Tells the store of this scope from others of the process.
    pub fn store_id(&self) -> usize {
        Arc::as_ptr(&self.inner.store) as usize
    }

    /// The prefix, without a dot at the end.
    pub fn prefix(&self) -> &str {
        &self.inner.prefix
    }

    /// A scope below this one: `prefix.name`. It keeps the tags given for this one.
    pub fn child(&self, name: &str) -> Scope {
        self.child_with_tags(name, &[])
    }

    /// A scope below this one with more tags; each value should be one or more whole segments of `name`.
    pub fn child_with_tags(&self, name: &str, tags: &[(&str, &str)]) -> Scope {
        self.below(name, &without_values(name, tags), TagSet::new(tags))
    }

    /// A scope below this one whose tags are no part of its name as such: they are put behind it, as Envoy does with
    /// the tags of Istio's metrics (`istio_requests_total.reporter.source`).
    pub fn tagged(&self, name: &str, tags: &[(&str, &str)]) -> Scope {
        self.tagged_with(name, &TagSet::new(tags))
    }

    /// The same with tags that other scopes have, too.
    pub fn tagged_with(&self, name: &str, tags: &TagSet) -> Scope {
        let mut full = name.to_owned();
        for (tag, value) in tags.0.iter() {
            full.push('.');
            full.push_str(tag);
            full.push('.');
            full.push_str(value);
        }
        self.below(&full, name, tags.clone())
    }

    fn below(&self, name: &str, extracted: &str, tags: TagSet) -> Scope {
        let inner = &self.inner;
        let explicit = match &inner.explicit {
            None if tags.0.is_empty() => None,
            None => Some(ExplicitTags { extracted: join(&inner.prefix, extracted).into(), tags }),
            Some(explicit) => Some(ExplicitTags {
                extracted: join(&explicit.extracted, extracted).into(),
                tags: TagSet(explicit.tags.0.iter().chain(tags.0.iter()).cloned().collect()),
            }),
        };
        let prefix = join(&inner.prefix, name.trim_matches('.'));
        Scope { inner: Arc::new(ScopeInner::with_explicit(inner.store.clone(), &prefix, explicit)) }
    }

    /// Adds a group under this prefix. The generated `register` of a group calls it.
    pub fn register(&self, descriptor: &'static Descriptor) -> Arc<Group> {
        StoreInner::register(self.inner.clone(), descriptor)
    }

    /// Counters by response code: `upstream_rq_503`, `upstream_rq_5xx`, `upstream_rq_completed`.
    pub fn code_counters(&self, name: &'static str) -> CodeCounters {
        CodeCounters::register(self, name)
    }

    /// A counter whose name is known only at run time. It lives as long as any clone of this scope, takes
    /// a lock to find, and appears in the output at once.
    pub fn dynamic_counter(&self, name: &str) -> Counter {
        Counter::new(self.dynamic(Kind::Counter, name, &ONE_COUNTER))
    }

    /// A gauge whose name is known only at run time; as [`Scope::dynamic_counter`].
    pub fn dynamic_gauge(&self, name: &str) -> Gauge {
        Gauge::new(self.dynamic(Kind::Gauge, name, &ONE_GAUGE))
    }

    /// A histogram whose name is known only at run time; as [`Scope::dynamic_counter`]. The unit of the
    /// first call for a name counts.
    pub fn dynamic_histogram(&self, name: &str, unit: Unit) -> Histogram {
        let descriptor = &ONE_HISTOGRAM[unit as usize];
        Histogram::new(self.dynamic(Kind::Histogram, name, descriptor))
    }

    /// A text readout whose name is known only at run time; as [`Scope::dynamic_counter`].
    pub fn dynamic_text(&self, name: &str) -> TextReadout {
        TextReadout::new(self.dynamic(Kind::TextReadout, name, &ONE_TEXT))
    }

    fn dynamic(&self, kind: Kind, name: &str, descriptor: &'static Descriptor) -> Arc<Group> {
        let mut guard = self.inner.dynamic.lock().unwrap_or_else(PoisonError::into_inner);
        let stats = guard.get_or_insert_default();
        stats.entry((kind, name.into())).or_insert_with(|| self.child(name).register(descriptor)).clone()
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Scope").field(&self.inner.prefix).finish()
    }
}

/// `prefix.name`, or the one that is not empty.
pub(crate) fn join(prefix: &str, name: &str) -> String {
    match (prefix.is_empty(), name.is_empty()) {
        (true, _) => name.to_owned(),
        (_, true) => prefix.to_owned(),
        _ => format!("{prefix}.{name}"),
    }
}

/// A name as Envoy puts it into stat names: `:` and NUL become `_` (`127.0.0.1:80` → `127.0.0.1_80`).
pub fn sanitize(name: &str) -> String {
    name.replace("://", "_").replace([':', '\0'], "_")
}
