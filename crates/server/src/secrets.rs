//! TLS contexts and the files that they are made of: a changed file is taken without a reload.
//!
//! A pair that doesn't fit together changes nothing: the context stays as it was, the failure is logged and counted.

use crate::state::Server;
use nuncio_config::tls::{Certificates, Refreshed, SecretKey, TlsUse};
use nuncio_io::watch::{WatchId, Watcher};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;

/// How long after a change others are awaited: a certificate and its key are seldom replaced at once.
const SETTLE: Duration = Duration::from_millis(100);
/// Most rounds of that, so that a file that changes all the time delays nothing for ever.
const MOST_ROUNDS: usize = 4;

/// The TLS contexts in use.
#[derive(Default)]
pub(crate) struct Contexts {
    uses: RefCell<Vec<Arc<TlsUse>>>,
    changed: Notify,
}

impl Contexts {
    /// Adds those of a snapshot, and forgets those that nobody uses any more.
    pub(crate) fn add(&self, more: &[Arc<TlsUse>]) {
        let mut uses = self.uses.borrow_mut();
        uses.retain(|used| used.is_used());
        uses.extend(more.iter().map(Arc::clone));
        self.changed.notify_one();
    }

    /// Those that rest on a secret of discovery.
    pub(crate) fn resting_on(&self, key: &SecretKey) -> Vec<Arc<TlsUse>> {
        self.uses.borrow().iter().filter(|used| used.rests_on(key)).map(Arc::clone).collect()
    }

    /// The files that contexts rest on may be others now.
    pub(crate) fn files_changed(&self) {
        self.changed.notify_one();
    }

    /// The certificates of each context, by its place in the configuration.
    pub(crate) fn certificates(&self) -> Vec<Certificates> {
        let uses = self.uses.borrow();
        let by_place: BTreeMap<&str, Certificates> =
            uses.iter().filter_map(|used| Some((used.place.as_str(), used.certificates()?))).collect();
        by_place.into_values().collect()
    }

    /// Whole days until the first certificate expires; none without any.
    pub(crate) fn days_left(&self, now: SystemTime) -> Option<u64> {
        let all = self.certificates();
        let each = all.iter().flat_map(|one| one.chain.iter().chain(&one.authorities));
        each.map(|certificate| certificate.days_until_expiration(now)).min()
    }

    /// Whole seconds until the first OCSP response expires; none without any.
    pub(crate) fn ocsp_seconds_left(&self, now: SystemTime) -> Option<u64> {
        let all = self.certificates();
        let expirations = all.iter().flat_map(|one| &one.chain).filter_map(|certificate| certificate.ocsp_expiration);
        expirations.map(|expires| expires.duration_since(now).map_or(0, |left| left.as_secs())).min()
    }
}

/// Begins to follow the files, as long as the server is there.
pub(crate) fn start(server: &Rc<Server>) {
    server.contexts.add(&server.snapshot.borrow().tls);
    let mut files = match Watcher::new() {
        Ok(watcher) => Files { watcher, ids: HashMap::new() },
        Err(error) => {
            tracing::error!(target: "main", "changes of certificates are not seen: {error}");
            return;
        }
    };
    files.follow(&server.contexts);
    let server = Rc::downgrade(server);
    tokio::task::spawn_local(async move {
        loop {
            let Some(contexts) = server.upgrade().map(|server| Rc::clone(&server.contexts)) else { return };
            tokio::select! {
                changed = files.changed() => match changed {
                    Ok(changed) => refresh(&contexts, &changed),
                    Err(error) => {
                        tracing::error!(target: "main", "changes of certificates are not seen any more: {error}");
                        return;
                    }
                },
                () = contexts.changed.notified() => {}
            }
            files.follow(&contexts);
        }
    });
}

/// The files that are watched.
struct Files {
    watcher: Watcher,
    ids: HashMap<PathBuf, WatchId>,
}

impl Files {
    /// Watches what the contexts are made of now, and nothing else.
    fn follow(&mut self, contexts: &Contexts) {
        let wanted: BTreeSet<PathBuf> = contexts.uses.borrow().iter().flat_map(|used| used.paths()).collect();
        let gone: Vec<PathBuf> = self.ids.keys().filter(|path| !wanted.contains(*path)).cloned().collect();
        for path in gone {
            if let Some(id) = self.ids.remove(&path) {
                self.watcher.remove(id);
            }
        }
        for path in wanted {
            if self.ids.contains_key(&path) {
                continue;
            }
            match self.watcher.add(&path) {
                Ok(id) => drop(self.ids.insert(path, id)),
                Err(error) => {
                    tracing::error!(target: "main", "changes of {} are not seen: {error}", path.display());
                }
            }
        }
    }

    /// Waits for changes, and a moment for those that belong to them.
    async fn changed(&mut self) -> std::io::Result<BTreeSet<PathBuf>> {
        let mut ids = self.watcher.changed().await?;
        for _ in 0..MOST_ROUNDS {
            match tokio::time::timeout(SETTLE, self.watcher.changed()).await {
                Ok(more) => ids.extend(more?),
                Err(_) => break,
            }
        }
        Ok(self.ids.iter().filter(|(_, id)| ids.contains(id)).map(|(path, _)| path.clone()).collect())
    }
}

/// Builds the contexts anew that are made of these files.
fn refresh(contexts: &Contexts, changed: &BTreeSet<PathBuf>) {
    let concerned = |used: &&Arc<TlsUse>| !used.paths().is_disjoint(changed);
    let uses: Vec<Arc<TlsUse>> = contexts.uses.borrow().iter().filter(concerned).map(Arc::clone).collect();
    for used in uses {
        match used.refresh() {
            Refreshed::Updated => tracing::info!(target: "main", "{}: took the changed certificates", used.place),
            Refreshed::Kept(why) => {
                let place = &used.place;
                tracing::error!(target: "main", "{place}: the changed certificates can't be used, the old ones stay: {why}");
            }
            Refreshed::Pending | Refreshed::Gone => {}
        }
    }
    contexts.uses.borrow_mut().retain(|used| used.is_used());
}
