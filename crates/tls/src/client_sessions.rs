//! Sessions that a client keeps for resumption (`max_session_keys`).
//!
//! *Invariant*: a session is used again only for the server name, and the names that the certificate had to have, of its first use;
//! contexts share none.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls_pki_types::ServerName;

use crate::notes;

/// Servers whose choice of group is remembered.
const MOST_HINTS: usize = 16;

type Names = Option<Arc<[Arc<str>]>>;

enum Session {
    V1_2(Tls12ClientSessionValue),
    V1_3(Tls13ClientSessionValue),
}

struct Kept {
    server: ServerName<'static>,
    names: Names,
    session: Session,
}

#[derive(Default)]
struct State {
    /// Newest last.
    sessions: VecDeque<Kept>,
    hints: VecDeque<(ServerName<'static>, NamedGroup)>,
}

/// See the module.
pub(crate) struct ClientSessions {
    state: Mutex<State>,
    most: usize,
}

impl ClientSessions {
    pub(crate) fn new(most: u32) -> Self {
        ClientSessions { state: Mutex::default(), most: most as usize }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, server: ServerName<'static>, names: Names, session: Session) {
        let mut state = self.lock();
        state.sessions.push_back(Kept { server, names, session });
        while state.sessions.len() > self.most {
            state.sessions.pop_front();
        }
    }
}

fn names() -> Names {
    notes::with(|notes| notes.names.clone())
}

impl fmt::Debug for ClientSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSessions")
    }
}

impl ClientSessionStore for ClientSessions {
    fn set_kx_hint(&self, server: ServerName<'static>, group: NamedGroup) {
        let mut state = self.lock();
        state.hints.retain(|(known, _)| *known != server);
        state.hints.push_back((server, group));
        if state.hints.len() > MOST_HINTS {
            state.hints.pop_front();
        }
    }

    fn kx_hint(&self, server: &ServerName<'_>) -> Option<NamedGroup> {
        self.lock().hints.iter().find(|(known, _)| known == server).map(|(_, group)| *group)
    }

    fn set_tls12_session(&self, server: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.keep(server, names(), Session::V1_2(value));
    }

    fn tls12_session(&self, server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        let names = names();
        let state = self.lock();
        let mut newest = state.sessions.iter().rev();
        newest.find_map(|kept| match &kept.session {
            Session::V1_2(session) if kept.server == *server && kept.names == names => Some(session.clone()),
            _ => None,
        })
    }

    fn remove_tls12_session(&self, server: &ServerName<'static>) {
        let is_it = |kept: &Kept| kept.server == *server && matches!(kept.session, Session::V1_2(_));
        self.lock().sessions.retain(|kept| !is_it(kept));
    }

    fn insert_tls13_ticket(&self, server: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.keep(server, names(), Session::V1_3(value));
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let names = names();
        let mut state = self.lock();
        let is_it =
            |kept: &Kept| kept.server == *server && kept.names == names && matches!(kept.session, Session::V1_3(_));
        let index = state.sessions.iter().rposition(is_it)?;
        match state.sessions.remove(index)?.session {
            Session::V1_3(session) => Some(session),
            Session::V1_2(_) => None,
        }
    }
}
