//! The script of an origin, as a case file states it.

use serde::Deserialize;

/// What an origin does.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Script {
    /// It speaks HTTP/1, or HTTP/2 to who begins with its preface. For each request the first reply is played that matches
    /// and is not used up; without one, a 200.
    Http(Vec<Reply>),
    /// The same, with settings of its own for HTTP/2.
    Http2 {
        /// What it says in its SETTINGS.
        http2: Http2Settings,
        /// As above.
        #[serde(default)]
        replies: Vec<Reply>,
    },
    /// It plays these actions on each connection.
    Tcp {
        /// In order; the connection is closed after the last one.
        tcp: Vec<Action>,
    },
}

impl Script {
    /// The replies of an origin that speaks HTTP.
    pub fn replies(&self) -> &[Reply] {
        match self {
            Script::Http(replies) | Script::Http2 { replies, .. } => replies,
            Script::Tcp { .. } => &[],
        }
    }
}

/// The SETTINGS of an HTTP/2 origin, or of a client but for those that are a server's; those that are absent are not sent.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http2Settings {
    /// SETTINGS_MAX_CONCURRENT_STREAMS.
    pub max_concurrent_streams: Option<u32>,
    /// SETTINGS_INITIAL_WINDOW_SIZE, bytes.
    pub initial_window: Option<u32>,
    /// SETTINGS_MAX_FRAME_SIZE, bytes.
    pub max_frame_size: Option<u32>,
    /// SETTINGS_HEADER_TABLE_SIZE, bytes.
    pub header_table_size: Option<u32>,
    /// SETTINGS_ENABLE_CONNECT_PROTOCOL.
    pub extended_connect: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self::Http(Vec::new())
    }
}

/// One reply of an HTTP origin. The default is `200 OK` with the body `ok`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reply {
    /// Only for requests with this path, the query left out.
    pub path: Option<String>,
    /// How often it may be played; without limit when absent.
    pub times: Option<u32>,
    /// The status; 200 when absent.
    pub status: Option<u16>,
    /// The minor version of the status line: `1.0` or `1.1`.
    pub version: Option<String>,
    /// The reason phrase; `OK` when absent.
    pub reason: Option<String>,
    /// Header lines, each `name: value`.
    pub headers: Vec<String>,
    /// The body.
    pub body: Option<String>,
    /// A body of this many `x`, in bytes.
    pub size: Option<usize>,
    /// A body in chunks, with `transfer-encoding: chunked`.
    pub chunks: Option<Vec<String>>,
    /// Trailer lines after the chunks.
    pub trailers: Vec<String>,
    /// Says this as `content-length`, whatever the body is.
    pub length: Option<usize>,
    /// Sends no `content-length`: the body ends with the connection, which is closed.
    pub until_close: bool,
    /// Sends these bytes instead of a response built from the fields above.
    pub raw: Option<String>,
    /// Statuses of informational responses that are sent first.
    pub interim: Vec<u16>,
    /// Replies before the body of the request was read.
    pub early: bool,
    /// Waits for this gate before anything is sent.
    pub hold: Option<String>,
    /// Waits for this gate between the head and the body.
    pub hold_body: Option<String>,
    /// Sends only this many bytes of what would have been sent, heads included.
    pub cut: Option<usize>,
    /// HTTP/2: resets the stream with this error code instead of an answer, or with `cut` after a part of the body. 7 refuses
    /// it.
    pub reset: Option<u32>,
    /// HTTP/2: gives no window back, so that the request body stops at the initial one.
    pub stall: bool,
    /// What happens to the connection afterwards. On HTTP/2, `close` says GOAWAY and lets the streams end, `reset` cuts the
    /// connection, `hang` leaves the stream open, `echo` sends back what the request body brings.
    pub then: After,
}

/// What happens to the connection after a reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum After {
    /// It serves the next request.
    #[default]
    Keep,
    /// It is closed.
    Close,
    /// It is reset.
    Reset,
    /// It stays open, and nothing more is read or sent until the peer closes.
    Hang,
    /// It sends back every byte it gets.
    Echo,
}

/// One action of a TCP origin.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Sends these bytes.
    Send(String),
    /// Sends this many `x`.
    SendSize(usize),
    /// Reads this many bytes.
    Read(usize),
    /// Waits for a gate.
    Hold(String),
    /// Opens a gate.
    Release(String),
    /// Sends back every byte until the peer stops sending.
    Echo,
    /// Reads until the peer stops sending.
    Drain,
    /// Says that nothing more will be sent.
    Finish,
    /// Resets the connection.
    Reset,
}
