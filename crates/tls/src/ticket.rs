//! Session tickets (stateless resumption): who encrypts them with what, and where they are accepted.
//!
//! *Invariant*: a ticket is authenticated together with the digest of its context (filter chain, trust, certificates), so that it
//! opens nowhere else, and not after any of that has changed.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use aws_lc_rs::rand;
use rustls::server::{ProducesTickets, StoresServerSessions};

use crate::clock::Clock;
use crate::shared::Digest;
use crate::spec::Secret;

/// Bytes of a key as Envoy's `session_ticket_keys` have it: name 16, HMAC key 32, AES key 32.
pub(crate) const KEY_BYTES: usize = 80;
const NAME: usize = 16;
/// Keys of our own are changed this often, seconds.
const ROTATION: i64 = 3600;
/// And kept this many times: a little more than a day.
const KEPT: usize = 26;

struct TicketKey {
    name: [u8; NAME],
    key: LessSafeKey,
}

impl TicketKey {
    fn new(bytes: &[u8]) -> Option<TicketKey> {
        let (name, keys) = bytes.split_at_checked(NAME).filter(|_| bytes.len() == KEY_BYTES)?;
        let (authentication, encryption) = keys.split_at(32);
        // One AEAD key takes the place of the two.
        let mut material = Vec::with_capacity(64);
        material.extend_from_slice(b"nuncio session ticket");
        material.extend_from_slice(encryption);
        let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, authentication), &material);
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).ok()?);
        Some(TicketKey { name: name.try_into().ok()?, key })
    }

    fn random() -> Option<TicketKey> {
        let mut bytes = [0; KEY_BYTES];
        rand::fill(&mut bytes).ok()?;
        Self::new(&bytes)
    }

    fn seal(&self, context: &Digest, mut plain: Vec<u8>) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let aad = Aad::from(&context[..]);
        self.key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut plain).ok()?;
        let mut out = Vec::with_capacity(NAME + NONCE_LEN + plain.len());
        out.extend_from_slice(&self.name);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&plain);
        Some(out)
    }

    fn open(&self, context: &Digest, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut data = sealed.to_vec();
        let length = self.key.open_in_place(nonce, Aad::from(&context[..]), &mut data).ok()?.len();
        data.truncate(length);
        Some(data)
    }
}

/// Keys and when each was made; the newest in front.
type DatedKeys = VecDeque<(i64, Arc<TicketKey>)>;

/// The process's own keys.
static OWN: OnceLock<Mutex<DatedKeys>> = OnceLock::new();

/// The first of the process's own keys that is wanted.
fn own_key(now: i64, is_wanted: impl Fn(&TicketKey) -> bool) -> Option<Arc<TicketKey>> {
    let mut keys = OWN.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if keys.front().is_none_or(|(made, _)| now - made >= ROTATION) {
        keys.push_front((now, Arc::new(TicketKey::random()?)));
        keys.truncate(KEPT);
    }
    keys.iter().find(|(_, key)| is_wanted(key)).map(|(_, key)| Arc::clone(key))
}

/// Makes and opens the tickets of one context.
pub(crate) struct Ticketer {
    /// The first encrypts. Empty: the process's own.
    keys: Vec<TicketKey>,
    context: Digest,
    lifetime: u32,
    clock: Clock,
}

impl Ticketer {
    /// `Err` is the index of a key that is not of 80 bytes.
    pub(crate) fn new(keys: &[Secret], context: Digest, lifetime: u32, clock: Clock) -> Result<Ticketer, usize> {
        let keys = keys.iter().enumerate().map(|(index, key)| TicketKey::new(&key.0).ok_or(index));
        Ok(Ticketer { keys: keys.collect::<Result<_, _>>()?, context, lifetime, clock })
    }
}

impl fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticketer")
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.lifetime
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let now = self.clock.seconds();
        let mut dated = Vec::with_capacity(8 + plain.len() + 16);
        dated.extend_from_slice(&now.to_be_bytes());
        dated.extend_from_slice(plain);
        match self.keys.first() {
            Some(key) => key.seal(&self.context, dated),
            None => own_key(now, |_| true)?.seal(&self.context, dated),
        }
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let now = self.clock.seconds();
        let (name, sealed) = ticket.split_at_checked(NAME)?;
        let is_it = |key: &TicketKey| key.name == name;
        let dated = if self.keys.is_empty() {
            own_key(now, is_it)?.open(&self.context, sealed)?
        } else {
            self.keys.iter().find(|key| is_it(key))?.open(&self.context, sealed)?
        };
        let (made, plain) = dated.split_first_chunk::<8>()?;
        let age = now - i64::from_be_bytes(*made);
        (0..=i64::from(self.lifetime)).contains(&age).then(|| plain.to_vec())
    }
}

/// Sessions that a context keeps (stateful resumption), bounded in number and bytes.
pub(crate) struct SessionCache {
    sessions: Mutex<Sessions>,
    lifetime: i64,
    clock: Clock,
}

#[derive(Default)]
struct Sessions {
    by_key: std::collections::HashMap<Vec<u8>, (i64, Vec<u8>)>,
    /// Oldest first.
    order: VecDeque<Vec<u8>>,
    bytes: usize,
}

/// BoringSSL keeps 20,480 sessions per context.
const MOST_SESSIONS: usize = 20_480;
const MOST_BYTES: usize = 8 * 1024 * 1024;

impl SessionCache {
    pub(crate) fn new(lifetime: u32, clock: Clock) -> SessionCache {
        SessionCache { sessions: Mutex::default(), lifetime: i64::from(lifetime), clock }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_fresh(&self, made: i64) -> bool {
        (0..=self.lifetime).contains(&(self.clock.seconds() - made))
    }
}

impl Sessions {
    fn remove(&mut self, key: &[u8]) -> Option<(i64, Vec<u8>)> {
        let (key, value) = self.by_key.remove_entry(key)?;
        self.bytes -= key.len() + value.1.len();
        Some(value)
    }
}

impl fmt::Debug for SessionCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionCache")
    }
}

impl StoresServerSessions for SessionCache {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let now = self.clock.seconds();
        let mut sessions = self.lock();
        sessions.remove(&key);
        sessions.bytes += key.len() + value.len();
        sessions.order.push_back(key.clone());
        sessions.by_key.insert(key, (now, value));
        while sessions.order.len() > MOST_SESSIONS || sessions.bytes > MOST_BYTES {
            let Some(oldest) = sessions.order.pop_front() else { break };
            sessions.remove(&oldest);
        }
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let sessions = self.lock();
        let (made, value) = sessions.by_key.get(key)?;
        self.is_fresh(*made).then(|| value.clone())
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        let (made, value) = self.lock().remove(key)?;
        self.is_fresh(made).then_some(value)
    }

    fn can_cache(&self) -> bool {
        true
    }
}
