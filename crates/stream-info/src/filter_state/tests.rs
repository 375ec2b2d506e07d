use super::{ConnectionState, FilterState, FilterStateError, LifeSpan, MAX_OBJECTS, Mutability, PlainString, Sharing};
use std::sync::Arc;

fn set(state: &mut FilterState, name: &str, mutability: Mutability, life: LifeSpan) -> Result<(), FilterStateError> {
    state.set(name, Arc::new(PlainString(name.into())), mutability, life, Sharing::None)
}

#[test]
fn names_keep_life_span_and_mutability() {
    use FilterStateError::{LifeSpanConflict, MutabilityConflict};
    use LifeSpan::*;
    use Mutability::*;
    for (first, second, expected) in [
        ((Mutable, Request), (Mutable, Request), Ok(())),
        ((ReadOnly, Request), (Mutable, Request), Err(FilterStateError::ReadOnly)),
        ((ReadOnly, Request), (ReadOnly, Request), Err(FilterStateError::ReadOnly)),
        ((Mutable, Request), (ReadOnly, Request), Err(MutabilityConflict)),
        ((Mutable, Request), (Mutable, FilterChain), Err(LifeSpanConflict)),
        ((Mutable, Request), (Mutable, Connection), Err(LifeSpanConflict)),
        ((Mutable, Connection), (Mutable, Request), Err(LifeSpanConflict)),
        ((Mutable, Connection), (Mutable, Connection), Ok(())),
    ] {
        let mut state = FilterState::default();
        set(&mut state, "a", first.0, first.1).unwrap();
        assert_eq!(set(&mut state, "a", second.0, second.1), expected, "{first:?} {second:?}");
    }
}

#[test]
fn objects_live_as_long_as_they_say() {
    let mut state = FilterState::on_connection(ConnectionState::shared());
    for (name, life) in [("f", LifeSpan::FilterChain), ("r", LifeSpan::Request), ("c", LifeSpan::Connection)] {
        set(&mut state, name, Mutability::Mutable, life).unwrap();
    }
    let present = |state: &FilterState| ["f", "r", "c"].map(|name| state.get(name).is_some());
    assert_eq!(present(&state), [true, true, true]);
    let sibling = FilterState::on_connection(state.connection().clone());
    assert_eq!(present(&sibling), [false, false, true]);
    state.end_filter_chain();
    assert_eq!(present(&state), [false, true, true]);
    state.end_stream();
    assert_eq!(present(&state), [false, false, true]);
}

#[test]
fn objects_are_bounded_and_shared_upstream_on_demand() {
    let mut state = FilterState::default();
    for at in 0..MAX_OBJECTS {
        set(&mut state, &at.to_string(), Mutability::Mutable, LifeSpan::Request).unwrap();
    }
    assert_eq!(set(&mut state, "x", Mutability::Mutable, LifeSpan::Request), Err(FilterStateError::Full));
    let object = Arc::new(PlainString("v".into()));
    let sharing = Sharing::SharedWithUpstream;
    state.set("s", object, Mutability::Mutable, LifeSpan::Connection, sharing).unwrap();
    let shared = state.shared_with_upstream();
    assert_eq!(shared.len(), 1);
    assert_eq!((&*shared[0].0, shared[0].1.to_plain().as_deref(), shared[0].2), ("s", Some("v"), sharing));
}
