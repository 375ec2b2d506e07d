//! Scopes: route tables that are chosen by headers of the request (`ScopedRoutes`).

use crate::on_demand::{OnDemand, Question};
use crate::{LiveRoutes, RouteTable};
use arc_swap::ArcSwap;
use hashbrown::{Equivalent, HashMap};
use nuncio_headers::{HeaderMap, HeaderName};
use smallvec::SmallVec;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// What identifies a scope: one string per fragment of the key builder.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ScopeKey(Box<[Box<[u8]>]>);

impl<S: Into<Vec<u8>>> FromIterator<S> for ScopeKey {
    fn from_iter<I: IntoIterator<Item = S>>(fragments: I) -> Self {
        ScopeKey(fragments.into_iter().map(|fragment| fragment.into().into_boxed_slice()).collect())
    }
}

/// A key in a request.
struct Wanted<'a>(SmallVec<[&'a [u8]; 4]>);

impl Hash for Wanted<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As slices of boxes do.
        self.0.as_slice().hash(state);
    }
}

impl Equivalent<ScopeKey> for Wanted<'_> {
    fn equivalent(&self, key: &ScopeKey) -> bool {
        self.0.iter().copied().eq(key.0.iter().map(|fragment| &**fragment))
    }
}

/// `HeaderValueExtractor`: where a fragment of the key is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FragmentBuilder {
    /// `name`: the header; its first value counts.
    pub header: HeaderName,
    /// `element_separator`; empty takes the value as one element.
    pub element_separator: Box<[u8]>,
    /// `extract_type`.
    pub extract: FragmentExtract,
}

/// `HeaderValueExtractor.extract_type`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FragmentExtract {
    /// `index`: the element of this number, from 0.
    Index(usize),
    /// `element`: what follows the separator in the first element with this key; all of the element has to be the key where
    /// there is no separator in it, and the fragment is empty then.
    Element {
        /// `separator`: not empty.
        separator: Box<[u8]>,
        /// `key`.
        key: Box<[u8]>,
    },
}

impl FragmentBuilder {
    fn fragment<'h>(&self, headers: &'h HeaderMap) -> Option<&'h [u8]> {
        let value = headers.get_name(&self.header)?;
        match &self.extract {
            FragmentExtract::Index(index) => Elements::new(value, &self.element_separator).nth(*index),
            FragmentExtract::Element { separator, key } => {
                Elements::new(value, &self.element_separator).find_map(|element| {
                    let (name, value) = match memchr::memmem::find(element, separator) {
                        Some(at) => (element.get(..at)?, element.get(at + separator.len()..)?),
                        None => (element, &b""[..]),
                    };
                    (*name == **key).then_some(value)
                })
            }
        }
    }
}

/// The parts of a value between separators.
struct Elements<'h, 's> {
    rest: Option<&'h [u8]>,
    separator: &'s [u8],
}

impl<'h, 's> Elements<'h, 's> {
    fn new(value: &'h [u8], separator: &'s [u8]) -> Self {
        Elements { rest: Some(value), separator }
    }
}

impl<'h> Iterator for Elements<'h, '_> {
    type Item = &'h [u8];

    fn next(&mut self) -> Option<&'h [u8]> {
        let rest = self.rest.take()?;
        let at = if self.separator.is_empty() { None } else { memchr::memmem::find(rest, self.separator) };
        let Some(at) = at else { return Some(rest) };
        self.rest = rest.get(at + self.separator.len()..);
        rest.get(..at)
    }
}

/// A scope: a route table, as it is at the moment.
#[derive(Debug, Clone)]
pub struct RouteScope {
    /// Its name.
    pub name: Arc<str>,
    /// Its routes.
    pub routes: Arc<LiveRoutes>,
}

/// The scopes of a connection manager, which change while they are used.
#[derive(Debug)]
pub struct LiveScopes {
    builder: Box<[FragmentBuilder]>,
    scopes: ArcSwap<HashMap<ScopeKey, RouteScope>>,
    /// Takes the names of scopes whose routes are needed.
    pub on_demand: OnDemand,
}

impl LiveScopes {
    /// Without scopes. A request whose headers lack one of the fragments is in none.
    pub fn new(builder: Vec<FragmentBuilder>) -> LiveScopes {
        LiveScopes { builder: builder.into(), scopes: ArcSwap::default(), on_demand: OnDemand::default() }
    }

    /// Puts other scopes in force.
    pub fn set(&self, scopes: impl IntoIterator<Item = (ScopeKey, RouteScope)>) {
        self.scopes.store(Arc::new(scopes.into_iter().collect()));
    }

    fn key<'h>(&self, headers: &'h HeaderMap) -> Option<Wanted<'h>> {
        self.builder.iter().map(|builder| builder.fragment(headers)).collect::<Option<_>>().map(Wanted)
    }

    /// The table of the request's scope; none if there is no such scope, or its routes are not there.
    pub fn find(&self, headers: &HeaderMap) -> Option<Arc<RouteTable>> {
        let key = self.key(headers)?;
        self.scopes.load().get(&key)?.routes.get()
    }

    /// The request's scope, if its routes are not there and can be asked for.
    pub fn lacking(&self, headers: &HeaderMap) -> Option<Arc<str>> {
        let key = self.key(headers)?;
        let scopes = self.scopes.load();
        let scope = scopes.get(&key)?;
        scope.routes.get().is_none().then(|| Arc::clone(&scope.name))
    }

    /// Asks for the routes of a scope.
    pub fn ask(&self, question: Question) {
        self.on_demand.ask(question);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(separator: &str, extract: FragmentExtract) -> LiveScopes {
        let header = HeaderName::new("x-scope").unwrap();
        LiveScopes::new(vec![FragmentBuilder { header, element_separator: separator.as_bytes().into(), extract }])
    }

    fn found(scopes: &LiveScopes, value: Option<&str>) -> Option<String> {
        let mut headers = HeaderMap::new();
        if let Some(value) = value {
            headers.append(&HeaderName::new("x-scope").unwrap(), value.as_bytes());
        }
        scopes.key(&headers).map(|key| String::from_utf8(key.0[0].to_vec()).unwrap())
    }

    #[test]
    fn takes_an_element_by_its_number() {
        let by_index = scopes(";", FragmentExtract::Index(1));
        assert_eq!(found(&by_index, Some("a;b;c")), Some("b".into()));
        assert_eq!(found(&by_index, Some("a;")), Some("".into()));
        assert_eq!(found(&by_index, Some("a")), None);
        assert_eq!(found(&by_index, None), None);
        assert_eq!(found(&scopes("", FragmentExtract::Index(0)), Some("a;b")), Some("a;b".into()));
    }

    #[test]
    fn takes_an_element_by_its_key() {
        let extract = || FragmentExtract::Element { separator: b"=>"[..].into(), key: b"k"[..].into() };
        let by_key = scopes(",", extract());
        assert_eq!(found(&by_key, Some("j=>1,k=>2=>3,k=>4")), Some("2=>3".into()));
        assert_eq!(found(&by_key, Some("k")), Some("".into()));
        assert_eq!(found(&by_key, Some("j=>1, k=>2")), None);
        assert_eq!(found(&scopes("", extract()), Some("k=>1,k=>2")), Some("1,k=>2".into()));
    }

    #[test]
    fn finds_the_scope_of_a_key() {
        let live = scopes("", FragmentExtract::Index(0));
        let name: Arc<str> = "s".into();
        let scope = RouteScope { name: name.clone(), routes: Arc::new(LiveRoutes::new()) };
        live.set([(["one"].into_iter().collect(), scope.clone())]);
        let mut headers = HeaderMap::new();
        headers.append(&HeaderName::new("x-scope").unwrap(), b"one");
        assert!(live.find(&headers).is_none());
        assert_eq!(live.lacking(&headers), Some(name));
        scope.routes.set(Some(Arc::new(RouteTable::build(crate::RouteConfigSpec::default()).unwrap())));
        assert!(live.find(&headers).is_some());
        assert_eq!(live.lacking(&headers), None);
        headers.append(&HeaderName::new("x-scope").unwrap(), b"two");
        assert!(live.find(&headers).is_some(), "the first value counts");
    }
}
