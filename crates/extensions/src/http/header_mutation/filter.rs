//! Applying the changes, in order.

use nuncio_filter::{End, HttpFilter, HttpFilterFactory, Interest, Step, Stream, Worker};
use nuncio_headers::{HeaderMap, HeaderName, Known};
use nuncio_matcher::StringMatcher;
use nuncio_route::HeaderEdits;
use nuncio_stream_info::{Format, LogContext};
use std::rc::Rc;
use std::sync::Arc;

/// One change to headers.
pub(super) enum Action {
    Remove(HeaderName),
    RemoveOnMatch(StringMatcher),
    Edit(HeaderEdits),
}

/// One change to the query.
pub(super) enum QueryAction {
    Remove(Box<str>),
    Append(Box<str>, Format),
    AddIfAbsent(Box<str>, Format),
    Overwrite(Box<str>, Format),
    OverwriteIfExists(Box<str>, Format),
}

/// The changes of one configuration.
#[derive(Default)]
pub(super) struct Mutations {
    pub request: Box<[Action]>,
    pub response: Box<[Action]>,
    pub request_trailers: Box<[Action]>,
    pub response_trailers: Box<[Action]>,
    pub query: Box<[QueryAction]>,
}

pub(super) struct HeaderMutationFactory {
    pub mutations: Arc<Mutations>,
    pub most_specific_wins: bool,
}

impl HttpFilterFactory for HeaderMutationFactory {
    fn create(&self, _worker: &Rc<Worker>) -> Box<dyn HttpFilter> {
        Box::new(HeaderMutationFilter {
            mutations: Arc::clone(&self.mutations),
            most_specific_wins: self.most_specific_wins,
        })
    }

    fn interest(&self) -> Interest {
        let own = &self.mutations;
        // A route may change trailers too, but trailers are rare: they are looked at where the filter itself does.
        let mut interest = Interest::REQUEST_HEADERS.and(Interest::RESPONSE_HEADERS);
        if !own.request_trailers.is_empty() {
            interest = interest.and(Interest::REQUEST_BODY);
        }
        if !own.response_trailers.is_empty() {
            interest = interest.and(Interest::RESPONSE_BODY);
        }
        interest
    }
}

pub(super) struct HeaderMutationFilter {
    pub mutations: Arc<Mutations>,
    pub most_specific_wins: bool,
}

/// Which part of a message is changed.
#[derive(Clone, Copy)]
enum Part {
    Request,
    Response,
    RequestTrailers,
    ResponseTrailers,
}

impl Part {
    fn actions(self, mutations: &Mutations) -> &[Action] {
        match self {
            Part::Request => &mutations.request,
            Part::Response => &mutations.response,
            Part::RequestTrailers => &mutations.request_trailers,
            Part::ResponseTrailers => &mutations.response_trailers,
        }
    }

    fn map<'s>(self, stream: &'s mut Stream<'_>) -> &'s mut HeaderMap {
        match self {
            Part::Request => stream.request,
            Part::Response => stream.response,
            Part::RequestTrailers => stream.request_trailers,
            Part::ResponseTrailers => stream.response_trailers,
        }
    }
}

impl HeaderMutationFilter {
    /// The filter's own changes, then those of the route's levels: the least specific has the last word, unless
    /// `most_specific_header_mutations_wins`.
    fn apply(&self, stream: &mut Stream<'_>, part: Part) {
        apply(&self.mutations, stream, part);
        let mut levels: Vec<Arc<Mutations>> = Vec::new();
        stream.per_route_shared::<Mutations>(|mutations| levels.push(mutations));
        if !self.most_specific_wins {
            levels.reverse();
        }
        for level in &levels {
            apply(level, stream, part);
        }
    }
}

fn apply(mutations: &Mutations, stream: &mut Stream<'_>, part: Part) {
    for action in part.actions(mutations) {
        match action {
            Action::Remove(name) => {
                part.map(stream).remove(name);
            }
            Action::RemoveOnMatch(matcher) => {
                part.map(stream).retain(|name, _| name.starts_with(':') || !matcher.matches(name.as_bytes()));
            }
            Action::Edit(edits) => {
                let mut headers = std::mem::take(part.map(stream));
                let context = context(stream);
                edits.apply(&mut headers, &context);
                *part.map(stream) = headers;
            }
        }
    }
    if matches!(part, Part::Request) && !mutations.query.is_empty() {
        change_query(&mutations.query, stream);
    }
}

fn context<'s>(stream: &'s Stream<'_>) -> LogContext<'s> {
    LogContext {
        request: Some(stream.request),
        response: Some(stream.response),
        trailers: Some(stream.response_trailers),
        ..LogContext::new(stream.info, stream.worker.now(), stream.worker.wall())
    }
}

fn change_query(actions: &[QueryAction], stream: &mut Stream<'_>) {
    let Some(path) = stream.request.get(Known::PATH).map(|path| String::from_utf8_lossy(path).into_owned()) else {
        return;
    };
    let (bare, query) = path.split_once('?').unwrap_or((&path, ""));
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    for action in actions {
        let text = |format: &Format| {
            let mut value = Vec::new();
            format.write(&context(stream), &mut value);
            String::from_utf8_lossy(&value).into_owned()
        };
        let has = |pairs: &[(String, String)], name: &str| pairs.iter().any(|(known, _)| known == name);
        match action {
            QueryAction::Remove(name) => pairs.retain(|(known, _)| **known != **name),
            QueryAction::Append(name, value) => pairs.push((name.to_string(), text(value))),
            QueryAction::AddIfAbsent(name, value) if !has(&pairs, name) => pairs.push((name.to_string(), text(value))),
            QueryAction::OverwriteIfExists(name, _) if !has(&pairs, name) => {}
            QueryAction::Overwrite(name, value) | QueryAction::OverwriteIfExists(name, value) => {
                let value = text(value);
                pairs.retain(|(known, _)| **known != **name);
                pairs.push((name.to_string(), value));
            }
            QueryAction::AddIfAbsent(..) => {}
        }
    }
    // Envoy writes parameters in the order of their names.
    pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
    let query: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let path = if query.is_empty() { bare.to_owned() } else { format!("{bare}?{}", query.join("&")) };
    stream.request.set_known(Known::PATH, path.as_bytes());
}

impl HttpFilter for HeaderMutationFilter {
    fn request_headers(&mut self, stream: &mut Stream<'_>, _end: End) -> Step {
        self.apply(stream, Part::Request);
        Step::Next
    }

    fn request_trailers(&mut self, stream: &mut Stream<'_>) -> Step {
        self.apply(stream, Part::RequestTrailers);
        Step::Next
    }

    fn response_headers(&mut self, stream: &mut Stream<'_>, _end: End) -> Step {
        self.apply(stream, Part::Response);
        Step::Next
    }

    fn response_trailers(&mut self, stream: &mut Stream<'_>) -> Step {
        self.apply(stream, Part::ResponseTrailers);
        Step::Next
    }
}
