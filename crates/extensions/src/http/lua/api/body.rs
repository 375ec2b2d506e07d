//! Bodies, pieces of bodies, and when trailers come.

use super::{Primitives, WAITS, wait_for};
use crate::http::lua::exchange::{Parts, State};
use bytes::Bytes;
use mlua::{Error, LuaString};
use nuncio_headers::Known;

/// `NONE`, `THERE` and `WAIT` of `handle.lua`.
const NONE: u8 = 0;
const THERE: u8 = 1;
const WAIT: u8 = 2;

/// `BODY` and `CHUNK` of `handle.lua`.
const CHUNK: u8 = 1;

type Answer = Result<(u8, Option<&'static str>), Error>;

pub(super) fn add(primitives: &Primitives<'_>) -> Result<(), Error> {
    primitives.add("body", |_, parts, always: bool| body(parts, always))?;
    primitives.add("chunks", |_, parts, ()| {
        Ok(parts.side.saw_body.then_some("cannot call bodyChunks after body processing has begun"))
    })?;
    primitives.add("next_chunk", |_, parts, ()| {
        if parts.side.ended {
            return Ok((NONE, None));
        }
        wait(parts, State::Chunk)
    })?;
    primitives.add("trailers", |_, parts, ()| {
        if parts.side.has_trailers {
            return Ok((THERE, None));
        }
        if parts.side.ended {
            return Ok((NONE, None));
        }
        wait(parts, State::Trailers)
    })?;
    primitives
        .add("length", |_, parts, at: u8| Ok(if at == CHUNK { parts.side.chunk.len() } else { parts.body().len() }))?;
    primitives.add("bytes", |lua, parts, (at, index, length): (u8, f64, f64)| {
        let bytes = if at == CHUNK { &parts.side.chunk[..] } else { &parts.body()[..] };
        range(bytes, index, length).map(|bytes| lua.create_string(bytes)).transpose()
    })?;
    primitives.add("set_bytes", |_, parts, (at, bytes): (u8, LuaString)| Ok(set(parts, at, &bytes.as_bytes())))
}

fn body(parts: &mut Parts, always: bool) -> Answer {
    let side = &parts.side;
    if !side.ended {
        if side.saw_body {
            return Ok((NONE, Some("cannot call body() after body streaming has started")));
        }
        let answer = wait(parts, State::Body)?;
        parts.side.buffers_body = true;
        return Ok(answer);
    }
    if side.saw_body && !side.buffers_body {
        return Ok((NONE, Some("cannot call body() after body has been streamed")));
    }
    let there = always || side.saw_body || !parts.body().is_empty();
    Ok((if there { THERE } else { NONE }, None))
}

fn wait(parts: &mut Parts, state: State) -> Answer {
    Ok(if wait_for(parts, state) { (WAIT, None) } else { (NONE, Some(WAITS)) })
}

fn range(bytes: &[u8], index: f64, length: f64) -> Option<&[u8]> {
    if !(index >= 0.0 && length >= 0.0) {
        return None;
    }
    let start = index as usize;
    bytes.get(start..start.checked_add(length as usize)?)
}

/// Replaces the bytes, and tells the peer the new length if it is not under way already.
fn set(parts: &mut Parts, at: u8, bytes: &[u8]) -> (usize, Option<&'static str>) {
    if at == CHUNK {
        parts.side.chunk = Bytes::copy_from_slice(bytes);
    } else {
        let body = parts.body();
        body.clear();
        body.extend_from_slice(bytes);
        parts.side.body_changed = true;
    }
    if at != CHUNK && parts.side.headers_open {
        parts.own_headers().set_known(Known::CONTENT_LENGTH, bytes.len().to_string().as_bytes());
    }
    (bytes.len(), None)
}
