//! A sketch of `envoy.filters.http.ext_proc` on the filter contract: one long-lived exchange with a processor per stream,
//! over two channels instead of a gRPC stream, full duplex in both directions. It exists to prove the contract, and to
//! measure it; the product's filter will keep its shape.

#![allow(dead_code, clippy::unwrap_used)]

use bytes::Bytes;
use nuncio_filter::{
    Body, Chunk, Completed, DataStep, End, FilterSlot, HttpFilter, HttpFilterFactory, LocalReply, Step, Stream, Work,
    Worker,
};
use nuncio_headers::{HeaderMap, HeaderName, Known};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender, channel, error::TrySendError};

/// Events that may wait for the processor, and answers that may wait for the filter.
const WINDOW: usize = 4;

/// What the processor is told.
#[derive(Debug)]
pub enum Event {
    Headers(Body, Box<HeaderMap>, End),
    Data(Body, Bytes, End),
    Trailers(Body),
}

/// What the processor answers.
#[derive(Debug)]
pub enum Answer {
    /// To headers: these are set, then they go on.
    Headers(Vec<(&'static str, String)>),
    /// A part of the body, whenever the processor pleases.
    Data(Bytes, End),
    /// To trailers: they go on.
    Trailers,
    /// The client is answered from here.
    Reply(u16, &'static str),
}

/// The processor's side of an exchange.
pub struct Exchange {
    pub events: Receiver<Event>,
    pub request: Sender<Answer>,
    pub response: Sender<Answer>,
}

impl Exchange {
    pub async fn answer(&self, body: Body, answer: Answer) {
        let sender = match body {
            Body::Request => &self.request,
            Body::Response => &self.response,
        };
        let _ = sender.send(answer).await;
    }
}

pub type Processor = Arc<dyn Fn(Exchange) -> Pin<Box<dyn Future<Output = ()>>> + Send + Sync>;

/// A place in the chain for a processor. `limit` is how long it may take to answer.
pub fn slot<F: Future<Output = ()> + 'static>(
    limit: Duration,
    processor: impl Fn(Exchange) -> F + Send + Sync + 'static,
) -> FilterSlot {
    let processor: Processor = Arc::new(move |exchange| Box::pin(processor(exchange)));
    FilterSlot { name: "ext_proc".into(), factory: Arc::new(Factory { limit, processor }), disabled: false }
}

struct Factory {
    limit: Duration,
    processor: Processor,
}

impl HttpFilterFactory for Factory {
    fn create(&self, _worker: &Rc<Worker>) -> Box<dyn HttpFilter> {
        let (events, received) = channel(WINDOW);
        let (request, request_answers) = channel(WINDOW);
        let (response, response_answers) = channel(WINDOW);
        tokio::task::spawn_local((self.processor)(Exchange { events: received, request, response }));
        Box::new(Filter {
            limit: self.limit,
            events,
            request: Half { answers: Some(request_answers), open: 0, streams: false },
            response: Half { answers: Some(response_answers), open: 0, streams: false },
            replied: false,
        })
    }
}

/// One direction of the exchange.
struct Half {
    /// Where answers come from; work that waits for one takes it along.
    answers: Option<Receiver<Answer>>,
    /// Events that were not answered.
    open: usize,
    /// A body follows the headers.
    streams: bool,
}

struct Filter {
    limit: Duration,
    events: Sender<Event>,
    request: Half,
    response: Half,
    replied: bool,
}

/// What came of waiting for an answer.
struct Answered {
    body: Body,
    answers: Receiver<Answer>,
    /// None when the processor is gone; an error when it is late.
    answer: Result<Option<Answer>, tokio::time::error::Elapsed>,
}

/// The processor took an event that it had no room for.
struct Given {
    /// It was headers, which wait for their answer.
    headers: Option<Body>,
}

impl Filter {
    fn half(&mut self, body: Body) -> &mut Half {
        match body {
            Body::Request => &mut self.request,
            Body::Response => &mut self.response,
        }
    }

    /// Waits for the next answer of a direction; `None` while something waits for it already.
    fn next(&mut self, body: Body) -> Option<Work> {
        let limit = self.limit;
        let mut answers = self.half(body).answers.take()?;
        Some(Work::new(async move {
            let answer = tokio::time::timeout(limit, answers.recv()).await;
            Answered { body, answers, answer }
        }))
    }

    fn failed(&mut self, status: u16, what: &'static str) -> Box<LocalReply> {
        self.replied = true;
        LocalReply::new(status, Bytes::from_static(what.as_bytes()), what.replace(' ', "_"))
    }

    fn headers(&mut self, stream: &mut Stream<'_>, body: Body, end: End) -> Step {
        if self.replied {
            return Step::Next;
        }
        self.half(body).streams = end == End::More;
        let map = map(stream, body);
        if end == End::More {
            map.remove_known(Known::CONTENT_LENGTH);
        }
        let event = Event::Headers(body, Box::new(map.clone()), end);
        match self.give(event) {
            Ok(()) => match self.next(body) {
                Some(work) => Step::Await(work),
                None => Step::Next,
            },
            Err(TrySendError::Full(event)) => Step::Await(self.give_later(event)),
            Err(TrySendError::Closed(_)) => Step::Reply(self.failed(500, "processor gone")),
        }
    }

    fn data(&mut self, body: Body, chunk: &mut Chunk, end: End) -> DataStep {
        if self.replied {
            return DataStep::Next;
        }
        match self.give(Event::Data(body, chunk.take(), end)) {
            Ok(()) => DataStep::Hold,
            Err(TrySendError::Full(event)) => DataStep::Await(self.give_later(event)),
            Err(TrySendError::Closed(_)) => DataStep::Reply(self.failed(500, "processor gone")),
        }
    }

    fn trailers(&mut self, body: Body) -> Step {
        if self.replied {
            return Step::Next;
        }
        match self.give(Event::Trailers(body)) {
            Ok(()) => Step::Hold,
            Err(TrySendError::Full(event)) => Step::Await(self.give_later(event)),
            Err(TrySendError::Closed(_)) => Step::Reply(self.failed(500, "processor gone")),
        }
    }

    fn give(&mut self, event: Event) -> Result<(), TrySendError<Event>> {
        self.half(body_of(&event)).open += 1;
        self.events.try_send(event)
    }

    fn give_later(&mut self, event: Event) -> Work {
        let events = self.events.clone();
        let headers = matches!(event, Event::Headers(..)).then(|| body_of(&event));
        Work::new(async move {
            let _ = events.send(event).await;
            Given { headers }
        })
    }

    fn answered(&mut self, stream: &mut Stream<'_>, done: Answered) -> Step {
        let Answered { body, answers, answer } = done;
        if self.replied {
            return Step::Next;
        }
        let half = self.half(body);
        half.answers = Some(answers);
        let more = match answer {
            Ok(Some(Answer::Headers(changes))) => {
                half.open = half.open.saturating_sub(1);
                for (name, value) in changes {
                    map(stream, body).set(&HeaderName::new(name).unwrap(), value.as_bytes());
                }
                self.half(body).streams
            }
            Ok(Some(Answer::Data(bytes, end))) => {
                half.open = half.open.saturating_sub(1);
                stream.send(body, bytes, end);
                end == End::More
            }
            Ok(Some(Answer::Trailers)) => {
                match body {
                    Body::Request => stream.continue_request(),
                    Body::Response => stream.continue_response(),
                }
                false
            }
            Ok(Some(Answer::Reply(status, text))) => return Step::Reply(self.failed(status, text)),
            Ok(None) => return Step::Reply(self.failed(500, "processor gone")),
            Err(_) if half.open > 0 => return Step::Reply(self.failed(504, "processor timeout")),
            // Nothing to answer: the other side is slow, not the processor.
            Err(_) => true,
        };
        if more && let Some(work) = self.next(body) {
            stream.feed(body, work);
        }
        Step::Next
    }
}

impl HttpFilter for Filter {
    fn request_headers(&mut self, stream: &mut Stream<'_>, end: End) -> Step {
        self.headers(stream, Body::Request, end)
    }

    fn request_data(&mut self, _stream: &mut Stream<'_>, data: &mut Chunk, end: End) -> DataStep {
        self.data(Body::Request, data, end)
    }

    fn request_trailers(&mut self, _stream: &mut Stream<'_>) -> Step {
        self.trailers(Body::Request)
    }

    fn response_headers(&mut self, stream: &mut Stream<'_>, end: End) -> Step {
        self.headers(stream, Body::Response, end)
    }

    fn response_data(&mut self, _stream: &mut Stream<'_>, data: &mut Chunk, end: End) -> DataStep {
        self.data(Body::Response, data, end)
    }

    fn response_trailers(&mut self, _stream: &mut Stream<'_>) -> Step {
        self.trailers(Body::Response)
    }

    fn resume(&mut self, stream: &mut Stream<'_>, done: Completed) -> Step {
        match done.take::<Answered>() {
            Ok(done) => self.answered(stream, done),
            Err(done) => match done.take::<Given>() {
                Ok(Given { headers }) => match headers.and_then(|body| self.next(body)) {
                    Some(work) => Step::Await(work),
                    None => Step::Hold,
                },
                Err(_) => Step::Next,
            },
        }
    }
}

fn map<'s>(stream: &'s mut Stream<'_>, body: Body) -> &'s mut HeaderMap {
    match body {
        Body::Request => stream.request,
        Body::Response => stream.response,
    }
}

fn body_of(event: &Event) -> Body {
    match event {
        Event::Headers(body, ..) | Event::Data(body, ..) | Event::Trailers(body) => *body,
    }
}

/// A filter that keeps the request until it is complete, then lets it go.
pub struct Whole;

impl HttpFilter for Whole {
    fn request_headers(&mut self, _: &mut Stream<'_>, end: End) -> Step {
        if end.is_last() { Step::Next } else { Step::Hold }
    }

    fn request_data(&mut self, _: &mut Stream<'_>, _: &mut Chunk, end: End) -> DataStep {
        if end.is_last() { DataStep::Next } else { DataStep::Buffer }
    }
}
