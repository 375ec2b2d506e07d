//! Event logs of health checks and outlier detection: one JSON object a line, as Envoy writes them.

use nuncio_stream_info::{Address, Locality, write_json_string};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::Arc;
use std::time::SystemTime;
use time::OffsetDateTime;
use time::macros::format_description;

/// Open log files by path. Events are rare: each is written at once.
#[derive(Debug, Default)]
pub(crate) struct EventLogs {
    files: RefCell<HashMap<Arc<str>, File>>,
}

impl EventLogs {
    /// Appends a line. A file that can't be written is opened again with the next event, as after a rotation on a full
    /// disk; the event is lost, and a warning says so.
    pub(crate) fn write(&self, path: &Arc<str>, line: &[u8]) {
        let mut files = self.files.borrow_mut();
        let file = match files.entry(path.clone()) {
            std::collections::hash_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::hash_map::Entry::Vacant(entry) => {
                OpenOptions::new().create(true).append(true).open(&**path).map(|file| entry.insert(file))
            }
        };
        if let Err(error) = file.and_then(|file| file.write_all(line)) {
            tracing::warn!("event log {path}: an event was lost: {error}");
            files.remove(path);
        }
    }

    /// Files are opened anew with their next event (`POST /reopen_logs`, rotation).
    pub(crate) fn reopen(&self) {
        self.files.borrow_mut().clear();
    }
}

/// Builds one JSON object; members appear in the order in which they are added.
#[derive(Debug)]
pub(crate) struct JsonLine(Vec<u8>);

impl JsonLine {
    pub(crate) fn new() -> Self {
        JsonLine(b"{".to_vec())
    }

    fn key(&mut self, name: &str) {
        if self.0.last() != Some(&b'{') {
            self.0.push(b',');
        }
        write_json_string(name.as_bytes(), &mut self.0);
        self.0.push(b':');
    }

    pub(crate) fn text(&mut self, name: &str, value: &str) -> &mut Self {
        self.key(name);
        write_json_string(value.as_bytes(), &mut self.0);
        self
    }

    /// A value that is JSON already.
    pub(crate) fn raw(&mut self, name: &str, value: impl std::fmt::Display) -> &mut Self {
        self.key(name);
        // Writing into a Vec can't fail.
        let _ = write!(self.0, "{value}");
        self
    }

    pub(crate) fn object(&mut self, name: &str, fill: impl FnOnce(&mut JsonLine)) -> &mut Self {
        self.key(name);
        self.0.push(b'{');
        fill(self);
        self.0.push(b'}');
        self
    }

    pub(crate) fn time(&mut self, name: &str, at: SystemTime) -> &mut Self {
        let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
        let text = OffsetDateTime::from(at).format(&format).unwrap_or_default();
        self.text(name, &text)
    }

    /// `core.v3.Address`, with the fields that Envoy's event log prints.
    pub(crate) fn address(&mut self, name: &str, address: &Address) -> &mut Self {
        self.object(name, |line| match address {
            Address::Ip(socket) => {
                line.object("socket_address", |line| {
                    line.text("protocol", "TCP").text("address", &socket.ip().to_string());
                    line.raw("port_value", socket.port()).text("resolver_name", "");
                    line.raw("ipv4_compat", false).text("network_namespace_filepath", "");
                });
            }
            Address::Pipe(path) => {
                line.object("pipe", |line| {
                    line.text("path", path).raw("mode", 0);
                });
            }
            Address::Internal { listener, endpoint_id } => {
                line.object("envoy_internal_address", |line| {
                    line.text("server_listener_name", listener).text("endpoint_id", endpoint_id);
                });
            }
        })
    }

    pub(crate) fn locality(&mut self, name: &str, locality: &Locality) -> &mut Self {
        self.object(name, |line| {
            line.text("region", &locality.region).text("zone", &locality.zone).text("sub_zone", &locality.sub_zone);
        })
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(b"}\n");
        self.0
    }
}
