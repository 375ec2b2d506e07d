//! One HTTP/2 connection of an origin, by prior knowledge.

use std::future::poll_fn;
use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::{LocalSet, spawn_blocking, spawn_local};

use super::Shared;
use super::script::{After, Http2Settings, Reply, Script};
use super::session::choose;
use crate::PATIENCE;
use crate::message::{Body, End, Head};

/// What a reply does to its connection.
enum Connection {
    /// GOAWAY; the streams go on.
    GoAway,
    /// It is cut.
    Cut,
}

/// Plays the script until the connection ends.
pub(super) fn serve(stream: TcpStream, number: usize, shared: &Arc<Shared>) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let settings = match &shared.state().script {
        Script::Http2 { http2, .. } => *http2,
        _ => Http2Settings::default(),
    };
    LocalSet::new().block_on(&runtime, run(stream, number, Arc::clone(shared), settings)).map_err(io::Error::other)
}

async fn run(stream: TcpStream, number: usize, shared: Arc<Shared>, settings: Http2Settings) -> Result<(), h2::Error> {
    let Ok(stream) = tokio::net::TcpStream::from_std(stream) else { return Ok(()) };
    let mut builder = h2::server::Builder::new();
    if let Some(streams) = settings.max_concurrent_streams {
        builder.max_concurrent_streams(streams);
    }
    if let Some(window) = settings.initial_window {
        builder.initial_window_size(window);
    }
    if let Some(size) = settings.max_frame_size {
        builder.max_frame_size(size);
    }
    if let Some(size) = settings.header_table_size {
        builder.header_table_size(size);
    }
    if settings.extended_connect {
        builder.enable_connect_protocol();
    }
    let mut connection = builder.handshake::<_, Bytes>(stream).await?;
    let (ask, mut asked) = unbounded_channel();
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    spawn_local(exchange(request, respond, number, Arc::clone(&shared), ask.clone()));
                }
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
            what = asked.recv() => match what {
                Some(Connection::GoAway) => connection.graceful_shutdown(),
                Some(Connection::Cut) | None => return Ok(()),
            },
        }
    }
}

async fn exchange(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    number: usize,
    shared: Arc<Shared>,
    ask: UnboundedSender<Connection>,
) {
    let (parts, body) = request.into_parts();
    let (index, reply) = choose(&shared, number, head_of(&parts));
    if reply.then == After::Echo {
        shared.state().record(index, Body::default());
        shared.changed.notify_all();
        // The peer may reset the stream, which is for the test to judge.
        let _ = echo(&reply, &mut respond, body).await;
        return;
    }
    if reply.early {
        let _ = answer(&reply, &mut respond, &shared, &ask).await;
    }
    let body = read(body, reply.stall).await;
    shared.state().record(index, body);
    shared.changed.notify_all();
    if !reply.early {
        let _ = answer(&reply, &mut respond, &shared, &ask).await;
    }
}

/// The head as an HTTP/1 one would be written, with the pseudo-headers as lines.
fn head_of(parts: &http::request::Parts) -> Head {
    let path = parts.uri.path_and_query().map_or_else(|| parts.uri.to_string(), ToString::to_string);
    let mut fields = Vec::new();
    if let Some(scheme) = parts.uri.scheme_str() {
        fields.push((":scheme".to_owned(), scheme.to_owned()));
    }
    if let Some(authority) = parts.uri.authority() {
        fields.push((":authority".to_owned(), authority.to_string()));
    }
    if let Some(protocol) = parts.extensions.get::<h2::ext::Protocol>() {
        fields.push((":protocol".to_owned(), protocol.as_str().to_owned()));
    }
    fields.extend(lines_of(&parts.headers));
    Head { start: format!("{} {path} HTTP/2", parts.method), fields }
}

/// Header lines.
pub(crate) fn lines_of(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

/// Reads a body, and gives its window back as it goes unless it is to stall.
pub(crate) async fn read(mut body: RecvStream, stall: bool) -> Body {
    let mut read = Body::default();
    while let Some(chunk) = body.data().await {
        let Ok(chunk) = chunk else {
            read.end = End::Reset;
            return read;
        };
        if !stall {
            // A stream that was reset meanwhile needs no window.
            let _ = body.flow_control().release_capacity(chunk.len());
        }
        read.data.extend_from_slice(&chunk);
    }
    match body.trailers().await {
        Ok(Some(trailers)) => read.trailers = lines_of(&trailers),
        Ok(None) => {}
        Err(_) => read.end = End::Reset,
    }
    read
}

async fn answer(
    reply: &Reply,
    respond: &mut SendResponse<Bytes>,
    shared: &Arc<Shared>,
    ask: &UnboundedSender<Connection>,
) -> Result<(), h2::Error> {
    hold(reply.hold.as_ref(), shared).await;
    if let (Some(code), None) = (reply.reset, reply.cut) {
        respond.send_reset(Reason::from(code));
        return Ok(());
    }
    for status in &reply.interim {
        let mut interim = response(*status, &[]);
        if let Ok(value) = HeaderValue::from_str(&status.to_string()) {
            interim.headers_mut().insert("x-interim", value);
        }
        respond.send_informational(interim)?;
    }
    let status = reply.status.unwrap_or(200);
    let mut head = response(status, &reply.headers);
    let chunks = chunks_of(reply, !matches!(status, 204 | 304));
    let whole = chunks.iter().map(Bytes::len).sum::<usize>();
    if reply.chunks.is_none() && !reply.until_close && !matches!(status, 204 | 304) {
        head.headers_mut().insert("content-length", HeaderValue::from(reply.length.unwrap_or(whole)));
    }
    let cut = reply.cut.filter(|cut| *cut < whole);
    let ends_here = whole == 0 && reply.trailers.is_empty() && cut.is_none() && reply.then != After::Hang;
    let mut stream = respond.send_response(head, ends_here)?;
    hold(reply.hold_body.as_ref(), shared).await;
    let mut left = cut.unwrap_or(whole);
    let count = chunks.len();
    for (at, mut chunk) in chunks.into_iter().enumerate() {
        chunk.truncate(left);
        left -= chunk.len();
        let last = at + 1 == count && cut.is_none() && reply.trailers.is_empty() && reply.then != After::Hang;
        if !chunk.is_empty() {
            send(&mut stream, chunk, last, shared).await?;
        }
    }
    if cut.is_some() {
        stream.send_reset(Reason::from(reply.reset.unwrap_or(2)));
    } else if !reply.trailers.is_empty() {
        stream.send_trailers(fields(&reply.trailers))?;
    }
    match reply.then {
        After::Close => drop(ask.send(Connection::GoAway)),
        After::Reset => drop(ask.send(Connection::Cut)),
        After::Hang => poll_fn(|cx| stream.poll_reset(cx)).await.map(drop)?,
        After::Keep | After::Echo => {}
    }
    Ok(())
}

async fn hold(gate: Option<&String>, shared: &Arc<Shared>) {
    if let Some(gate) = gate.cloned() {
        let shared = Arc::clone(shared);
        // A gate that does not open in time is what the test will see.
        let _ = spawn_blocking(move || shared.gates.wait(&gate, PATIENCE)).await;
    }
}

fn response(status: u16, lines: &[String]) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    *response.headers_mut() = fields(lines);
    response
}

/// Header lines as a map; what is no header is left out.
pub(crate) fn fields(lines: &[String]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        if let (Ok(name), Ok(value)) =
            (HeaderName::try_from(name.trim()), HeaderValue::from_bytes(value.trim().as_bytes()))
        {
            map.append(name, value);
        }
    }
    map
}

fn chunks_of(reply: &Reply, has_body: bool) -> Vec<Bytes> {
    match (&reply.chunks, reply.size, &reply.body) {
        _ if !has_body => Vec::new(),
        (Some(chunks), ..) => chunks.iter().map(|chunk| Bytes::from(chunk.clone())).collect(),
        (None, Some(size), _) => vec![Bytes::from(vec![b'x'; size])],
        (None, None, Some(body)) => vec![Bytes::from(body.clone())],
        (None, None, None) => vec![Bytes::from_static(b"ok")],
    }
}

/// Sends as the window allows, and counts what was taken.
async fn send(stream: &mut SendStream<Bytes>, mut bytes: Bytes, last: bool, shared: &Shared) -> Result<(), h2::Error> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let Some(room) = poll_fn(|cx| stream.poll_capacity(cx)).await else { return Ok(()) };
        let part = bytes.split_to(room?.min(bytes.len()));
        shared.sent.fetch_add(part.len() as u64, Ordering::AcqRel);
        stream.send_data(part, last && bytes.is_empty())?;
    }
    Ok(())
}

async fn echo(reply: &Reply, respond: &mut SendResponse<Bytes>, mut body: RecvStream) -> Result<(), h2::Error> {
    let mut stream = respond.send_response(response(reply.status.unwrap_or(200), &reply.headers), false)?;
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        stream.send_data(chunk, false)?;
    }
    match body.trailers().await? {
        Some(trailers) => stream.send_trailers(trailers),
        None => stream.send_data(Bytes::new(), true),
    }
}
