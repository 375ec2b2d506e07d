//! A coroutine of one side of a stream, from its start to its end.

use super::api;
use super::exchange::{Direction, Side, State};
use super::vm::{Resumed, Vm};
use mlua::{Function, IntoLuaMulti, Thread};
use nuncio_filter::{ClientError, ClientResponse, LocalReply, Stream, Work};
use std::rc::Rc;

/// A coroutine with the machine that it runs on.
pub(super) struct Run {
    vm: Rc<Vm>,
    thread: Option<Thread>,
    pub side: Side,
}

/// How a coroutine stopped.
pub(super) enum Outcome {
    /// It is over.
    Over,
    /// It waits for a part of the message.
    Waits,
    /// It waits for a call.
    Call(Work),
    /// It replied.
    Reply(Box<LocalReply>),
    /// It failed.
    Failed(String),
}

/// The answer to a call.
pub(super) struct CallDone {
    pub direction: Direction,
    result: Result<ClientResponse, ClientError>,
    duplicates: bool,
}

impl Run {
    /// A coroutine that was not started.
    pub(super) fn new(vm: Rc<Vm>, side: Side) -> Run {
        Run { vm, thread: None, side }
    }

    /// Starts it.
    pub(super) fn start(&mut self, function: &Function, stream: &mut Stream<'_>) -> Outcome {
        let (resumed, thread) = self.vm.start(function, stream, &mut self.side);
        self.thread = thread;
        self.outcome(resumed)
    }

    /// Gives it what it waited for.
    pub(super) fn resume(&mut self, arguments: impl IntoLuaMulti, stream: &mut Stream<'_>) -> Outcome {
        let Some(thread) = self.thread.take() else { return Outcome::Over };
        self.side.state = State::Running;
        let (resumed, thread) = self.vm.resume(thread, arguments, stream, &mut self.side);
        self.thread = thread;
        self.outcome(resumed)
    }

    /// Gives it the answer to its call.
    pub(super) fn answer(&mut self, done: &CallDone, stream: &mut Stream<'_>) -> Outcome {
        let failure;
        let response = match &done.result {
            Ok(response) => response,
            Err(error) => {
                failure = api::failure_response(error);
                &failure
            }
        };
        match api::response_values(self.vm.lua(), response, done.duplicates) {
            Ok(values) => self.resume(values, stream),
            Err(error) => Outcome::Failed(self.vm.failure(&error)),
        }
    }

    fn outcome(&mut self, resumed: Resumed) -> Outcome {
        match resumed {
            Resumed::Finished => Outcome::Over,
            Resumed::Failed(message) => Outcome::Failed(message),
            Resumed::Waits => self.wanted(),
        }
    }

    /// What it waits for.
    fn wanted(&mut self) -> Outcome {
        match self.side.state {
            State::Chunk | State::Body | State::Trailers => Outcome::Waits,
            State::Running => Outcome::Failed("script performed an unexpected yield".to_owned()),
            State::Responded => self.side.reply.take().map_or(Outcome::Over, Outcome::Reply),
            State::Call => match self.side.call.take() {
                None => Outcome::Over,
                Some(call) => {
                    let (direction, duplicates) = (self.side.direction, call.duplicates);
                    let response = call.client.0.send(call.request);
                    Outcome::Call(Work::new(async move { CallDone { direction, result: response.await, duplicates } }))
                }
            },
        }
    }
}
