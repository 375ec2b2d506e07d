//! Resources in files: read when subscribed to, and again whenever the file is replaced or written.

use super::subscription::{Failure, Subscription, Update};
use nuncio_config::sources::FileSource;
use nuncio_config::{LoadOptions, Source, load};
use nuncio_io::watch::Watcher;
use nuncio_xds::pb::DiscoveryResponse;
use nuncio_xds::{Names, Resource, ResourceType};
use prost::{Message, Name};
use std::path::Path;
use std::rc::{Rc, Weak};
use tokio::task::AbortHandle;

/// Follows a file as long as the subscription is there.
pub(super) fn follow(
    file: FileSource,
    (kind, names): (ResourceType, Names),
    subscription: Weak<Subscription>,
) -> AbortHandle {
    let task = tokio::task::spawn_local(async move {
        let mut watcher = match watch(&file) {
            Ok(watcher) => watcher,
            Err(error) => {
                tracing::error!(target: "config", "changes of {} are not seen: {error}", file.path.display());
                let Some(subscription) = subscription.upgrade() else { return };
                read(&file.path, kind, &names, &subscription);
                return;
            }
        };
        loop {
            let Some(subscribed) = subscription.upgrade() else { return };
            read(&file.path, kind, &names, &subscribed);
            drop(subscribed);
            if let Err(error) = watcher.changed().await {
                tracing::error!(target: "config", "changes of {} are not seen any more: {error}", file.path.display());
                return;
            }
        }
    });
    task.abort_handle()
}

fn watch(file: &FileSource) -> std::io::Result<Watcher> {
    let mut watcher = Watcher::new()?;
    watcher.add(&file.path)?;
    if let Some(directory) = &file.watched_directory {
        watcher.add(directory)?;
    }
    Ok(watcher)
}

fn read(path: &Path, kind: ResourceType, names: &Names, subscription: &Rc<Subscription>) {
    let response = match response(path) {
        Ok(response) => response,
        Err(reason) => {
            tracing::warn!(target: "config", "{reason}: what it said before stays in force");
            subscription.failed(Failure::Unreadable);
            return;
        }
    };
    let mut resources = Vec::with_capacity(response.resources.len());
    for any in response.resources {
        match Resource::of_any(any, kind, &response.version_info) {
            Ok(resource) => resources.push(Rc::new(resource)),
            Err(reason) => {
                tracing::warn!(target: "config", "{}: {reason}: what it said before stays in force", path.display());
                subscription.failed(Failure::Rejected);
                return;
            }
        }
    }
    if let Names::These(wanted) = names {
        resources.retain(|resource| wanted.iter().any(|name| **name == *resource.name));
    }
    let update = Update {
        version: &response.version_info,
        is_complete: kind.is_complete(),
        resources: &resources,
        removed: &[],
    };
    if let Err(reason) = subscription.update(&update) {
        tracing::warn!(target: "config", "{}: {reason}", path.display());
    }
}

fn response(path: &Path) -> Result<DiscoveryResponse, String> {
    let source = Source::read(path).map_err(|error| error.message)?;
    let loaded =
        load(&[source], &DiscoveryResponse::full_name(), &LoadOptions { allow_unknown: true, skip_validation: true });
    let shown = path.display();
    if loaded.diagnostics.has_errors() {
        return Err(format!("{shown}: {}", loaded.diagnostics.to_string().trim_end().replace('\n', "; ")));
    }
    DiscoveryResponse::decode(&loaded.wire[..]).map_err(|error| format!("{shown} can't be decoded: {error}"))
}
