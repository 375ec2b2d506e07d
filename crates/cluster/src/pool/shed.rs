//! Whether new connections to hosts are shed because of overload: a question that the worker's thread answers.

use std::cell::RefCell;

type Question = Box<dyn Fn() -> bool>;

thread_local! {
    static QUESTION: RefCell<Option<Question>> = const { RefCell::new(None) };
}

/// From now on pools of this thread ask before they make a connection; requests are answered as if a circuit breaker
/// were open where the answer is yes.
pub fn shed_connections_if(question: impl Fn() -> bool + 'static) {
    QUESTION.with_borrow_mut(|slot| *slot = Some(Box::new(question)));
}

/// Whether the connection that is about to be made is shed.
pub(super) fn is_shed() -> bool {
    QUESTION.with_borrow(|question| question.as_ref().is_some_and(|question| question()))
}
