//! What two processes say to one another at a hot restart: messages as bytes, and back. Pure.
//!
//! A message is a byte that names it, then its fields: numbers in little endian, texts behind their length. What a newer
//! process adds at the end of a message is ignored; anything else that does not fit is an error, never a panic.
//!
//! *Invariant*: [`VERSION`] changes with everything that an older process would misunderstand.

use nuncio_io::handover::MOST_BYTES;
use nuncio_stats::transfer::{Change, Changes};

/// Processes understand each other if this is the same.
pub(crate) const VERSION: u32 = 1;

/// What `/hot_restart_version` and `--hot-restart-version` tell: the version, and the longest message. In Envoy the second
/// number is the size of the shared memory.
pub(crate) fn version_text() -> String {
    format!("{VERSION}.{MOST_BYTES}")
}

/// From the new process (the child) to the old one (the parent).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ToParent {
    /// The first one.
    Hello {
        /// [`VERSION`] of the child.
        version: u32,
        /// `--restart-epoch` of the child.
        epoch: u32,
        /// Whether the child wants statistics.
        stats: bool,
    },
    /// Stop the admin interface; hand its socket over.
    TakeAdmin,
    /// Hand all listening sockets over.
    TakeSockets,
    /// Tell what statistics have gained.
    Stats,
    /// The child serves: accept nothing more, drain, end.
    Live,
    /// A grandchild serves: do not wait any longer than it takes to end politely.
    Hurry,
    /// End now.
    Terminate,
}

/// From the parent to the child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ToChild {
    /// The answer to a hello.
    Welcome {
        /// When the process of epoch 0 started, ms since 1970.
        first_started: u64,
        /// How many processes there were, the parent included.
        generation: u64,
    },
    /// The parent takes no child now. The text says why.
    Refused(String),
    /// The admin interface is stopped. Comes with its socket, if there was one.
    Admin {
        /// Where it listens; empty if there is none.
        address: String,
    },
    /// Sockets of one address of a listener; they come with the message. There may be several messages for one address.
    Sockets(SocketsOf),
    /// There are no more sockets.
    SocketsEnd,
    /// Changes of statistics.
    Stats(Vec<Changes>),
    /// There are no more changes now.
    StatsEnd {
        /// Connections that the parent has.
        connections: u64,
    },
    /// The parent ends: this is the last message.
    Ended,
}

/// Whose sockets these are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SocketsOf {
    /// The listener's name.
    pub listener: String,
    /// The address as it was configured.
    pub configured: String,
    /// The address where it listens: not with port 0.
    pub bound: String,
}

/// A message that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl ToParent {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            ToParent::Hello { version, epoch, stats } => {
                out.push(1);
                out.extend(version.to_le_bytes());
                out.extend(epoch.to_le_bytes());
                out.push(u8::from(*stats));
            }
            ToParent::TakeAdmin => out.push(2),
            ToParent::TakeSockets => out.push(3),
            ToParent::Stats => out.push(4),
            ToParent::Live => out.push(5),
            ToParent::Hurry => out.push(6),
            ToParent::Terminate => out.push(7),
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<ToParent, Malformed> {
        let mut reader = Reader(bytes);
        Ok(match reader.byte()? {
            1 => ToParent::Hello { version: reader.u32()?, epoch: reader.u32()?, stats: reader.byte()? != 0 },
            2 => ToParent::TakeAdmin,
            3 => ToParent::TakeSockets,
            4 => ToParent::Stats,
            5 => ToParent::Live,
            6 => ToParent::Hurry,
            7 => ToParent::Terminate,
            _ => return Err(Malformed),
        })
    }
}

impl ToChild {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            ToChild::Welcome { first_started, generation } => {
                out.push(1);
                out.extend(first_started.to_le_bytes());
                out.extend(generation.to_le_bytes());
            }
            ToChild::Refused(why) => {
                out.push(2);
                write_text(&mut out, why);
            }
            ToChild::Admin { address } => {
                out.push(3);
                write_text(&mut out, address);
            }
            ToChild::Sockets(SocketsOf { listener, configured, bound }) => {
                out.push(4);
                write_text(&mut out, listener);
                write_text(&mut out, configured);
                write_text(&mut out, bound);
            }
            ToChild::SocketsEnd => out.push(5),
            ToChild::Stats(changes) => {
                out.push(STATS);
                changes.iter().for_each(|changes| write_changes(&mut out, &changes.prefix, &changes.stats));
            }
            ToChild::StatsEnd { connections } => {
                out.push(7);
                out.extend(connections.to_le_bytes());
            }
            ToChild::Ended => out.push(8),
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<ToChild, Malformed> {
        let mut reader = Reader(bytes);
        Ok(match reader.byte()? {
            1 => ToChild::Welcome { first_started: reader.u64()?, generation: reader.u64()? },
            2 => ToChild::Refused(reader.text()?),
            3 => ToChild::Admin { address: reader.text()? },
            4 => ToChild::Sockets(SocketsOf {
                listener: reader.text()?,
                configured: reader.text()?,
                bound: reader.text()?,
            }),
            5 => ToChild::SocketsEnd,
            STATS => {
                let mut all = Vec::new();
                while !reader.0.is_empty() {
                    all.push(reader.changes()?);
                }
                ToChild::Stats(all)
            }
            7 => ToChild::StatsEnd { connections: reader.u64()? },
            8 => ToChild::Ended,
            _ => return Err(Malformed),
        })
    }
}

/// Changes as messages, each as large as it may be. A name that fits in none is left out.
pub(crate) fn stats_messages(all: &[Changes]) -> Vec<Vec<u8>> {
    let mut messages = vec![vec![STATS]];
    for Changes { prefix, stats } in all {
        // Few groups are anywhere near the limit; those are split.
        for part in stats.chunks(256) {
            let mut one = Vec::new();
            write_changes(&mut one, prefix, part);
            if one.len() >= MOST_BYTES {
                continue;
            }
            match messages.last_mut() {
                Some(last) if last.len() + one.len() <= MOST_BYTES => last.extend(one),
                _ => messages.push([vec![STATS], one].concat()),
            }
        }
    }
    messages.retain(|message| message.len() > 1);
    messages
}

/// Names a message of changes.
const STATS: u8 = 6;
const COUNTER: u8 = 0;
const GAUGE: u8 = 1;

fn write_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

fn write_changes(out: &mut Vec<u8>, prefix: &str, stats: &[(String, Change)]) {
    write_text(out, prefix);
    out.extend((stats.len() as u32).to_le_bytes());
    for (name, change) in stats {
        write_text(out, name);
        let (kind, bytes) = match change {
            Change::Counter(grown) => (COUNTER, grown.to_le_bytes()),
            Change::Gauge(moved) => (GAUGE, moved.to_le_bytes()),
        };
        out.push(kind);
        out.extend(bytes);
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (first, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_le_bytes(self.take()?))
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn text(&mut self) -> Result<String, Malformed> {
        let length = self.u32()? as usize;
        let (text, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).map_err(|_| Malformed)
    }

    fn changes(&mut self) -> Result<Changes, Malformed> {
        let (prefix, count) = (self.text()?, self.u32()?);
        let mut stats = Vec::new();
        for _ in 0..count {
            let name = self.text()?;
            let change = match self.byte()? {
                COUNTER => Change::Counter(self.u64()?),
                GAUGE => Change::Gauge(i64::from_le_bytes(self.take()?)),
                _ => return Err(Malformed),
            };
            stats.push((name, change));
        }
        Ok(Changes { prefix, stats })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to_parent() -> Vec<ToParent> {
        vec![
            ToParent::Hello { version: VERSION, epoch: 7, stats: true },
            ToParent::TakeAdmin,
            ToParent::TakeSockets,
            ToParent::Stats,
            ToParent::Live,
            ToParent::Hurry,
            ToParent::Terminate,
        ]
    }

    fn changes() -> Vec<Changes> {
        let stats = vec![("x".to_owned(), Change::Counter(u64::MAX)), (String::new(), Change::Gauge(-3))];
        vec![Changes { prefix: "a.b".to_owned(), stats }, Changes { prefix: String::new(), stats: Vec::new() }]
    }

    fn to_child() -> Vec<ToChild> {
        let sockets =
            SocketsOf { listener: "l".to_owned(), configured: "1.2.3.4:0".to_owned(), bound: "1.2.3.4:5".to_owned() };
        vec![
            ToChild::Welcome { first_started: 1, generation: 2 },
            ToChild::Refused("no".to_owned()),
            ToChild::Admin { address: "@x".to_owned() },
            ToChild::Sockets(sockets),
            ToChild::SocketsEnd,
            ToChild::Stats(changes()),
            ToChild::StatsEnd { connections: 9 },
            ToChild::Ended,
        ]
    }

    #[test]
    fn messages_come_back() {
        for message in to_parent() {
            assert_eq!(ToParent::decode(&message.encode()), Ok(message));
        }
        for message in to_child() {
            assert_eq!(ToChild::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn mangled_messages_are_errors_or_other_messages() {
        let parents = to_parent().into_iter().map(|message| message.encode());
        for message in parents.chain(to_child().into_iter().map(|message| message.encode())) {
            for length in 0..message.len() {
                let _ = (ToParent::decode(&message[..length]), ToChild::decode(&message[..length]));
            }
            for at in 0..message.len() {
                for value in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut mangled = message.clone();
                    mangled[at] = value;
                    let _ = (ToParent::decode(&mangled), ToChild::decode(&mangled));
                }
            }
        }
        assert_eq!(ToParent::decode(&[]), Err(Malformed));
        assert_eq!(ToChild::decode(&[99]), Err(Malformed));
        // A length beyond the message allocates nothing.
        assert_eq!(ToChild::decode(&[2, 0xff, 0xff, 0xff, 0xff]), Err(Malformed));
    }

    #[test]
    fn a_newer_process_may_say_more() {
        let mut message = ToParent::Hello { version: VERSION, epoch: 7, stats: false }.encode();
        message.extend([1, 2, 3]);
        assert!(ToParent::decode(&message).is_ok());
    }

    #[test]
    fn many_changes_are_many_messages() {
        let name = |at: usize| format!("{at}{}", "n".repeat(100));
        let stats: Vec<_> = (0..3_000).map(|at| (name(at), Change::Counter(at as u64))).collect();
        let monster = Changes { prefix: "p".repeat(MOST_BYTES), stats: stats[..1].to_vec() };
        let all = vec![Changes { prefix: "p".to_owned(), stats: stats.clone() }, monster];
        let messages = stats_messages(&all);
        assert!(messages.len() > 4);
        let mut found = Vec::new();
        for message in messages {
            assert!(message.len() <= MOST_BYTES);
            let Ok(ToChild::Stats(part)) = ToChild::decode(&message) else { panic!() };
            found.extend(part.into_iter().flat_map(|changes| changes.stats));
        }
        assert_eq!(found, stats);
        assert!(stats_messages(&[]).is_empty());
    }
}
