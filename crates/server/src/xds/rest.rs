//! Polling over REST: `POST /v3/discovery:<kind>` with a `DiscoveryRequest` in JSON.

use super::subscription::{Failure, Subscription, Update};
use crate::state::Server;
use nuncio_api::schema::Schema;
use nuncio_config::json::{JsonOptions, write_message};
use nuncio_config::sources::ApiSource;
use nuncio_config::{Format, LoadOptions, Source, load};
use nuncio_filter::{ClientRequest, HttpClient};
use nuncio_headers::{HeaderMap, Known};
use nuncio_xds::pb::{DiscoveryRequest, DiscoveryResponse};
use nuncio_xds::{Names, Resource, ResourceType};
use prost::{Message, Name};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use tokio::task::AbortHandle;

/// Longest answer, in bytes.
const MAX_ANSWER: usize = 256 * 1024 * 1024;

/// Polls as long as the subscription is there.
pub(super) fn poll(
    server: &Rc<Server>,
    api: Arc<ApiSource>,
    (kind, names): (ResourceType, Names),
    subscription: Weak<Subscription>,
) -> AbortHandle {
    let worker = Rc::clone(&server.xds.worker);
    let client = nuncio_hcm::client(&worker, &Rc::new(server.xds.clusters.clone()));
    let resource_names = match names {
        Names::All | Names::Under(_) => Vec::new(),
        Names::These(names) => names.iter().map(ToString::to_string).collect(),
    };
    let mut request = DiscoveryRequest {
        node: Some(server.xds.node.clone()),
        resource_names,
        type_url: kind.type_url().to_owned(),
        ..DiscoveryRequest::default()
    };
    let task = tokio::task::spawn_local(async move {
        loop {
            let answer = fetch(&client, &api, kind, &request).await;
            let Some(subscribed) = subscription.upgrade() else { return };
            match answer {
                Ok(response) => {
                    if let Some(version) = take(&subscribed, kind, response) {
                        request.version_info = version;
                    }
                }
                Err(NotFetched::Failed(reason)) => {
                    tracing::warn!(target: "config", "{} could not be fetched: {reason}", kind.message());
                    subscribed.failed(Failure::Connection);
                }
                Err(NotFetched::Unusable(reason)) => {
                    tracing::warn!(target: "config", "{}: the answer can't be used: {reason}", kind.message());
                    subscribed.failed(Failure::Rejected);
                }
            }
            drop(subscribed);
            // So that many proxies do not ask at the same moment, as in Envoy.
            let jitter = worker.random() % u64::try_from(api.refresh_delay.as_millis()).unwrap_or(u64::MAX).max(1);
            tokio::time::sleep(api.refresh_delay + std::time::Duration::from_millis(jitter)).await;
        }
    });
    task.abort_handle()
}

/// Why there is no answer.
enum NotFetched {
    /// None came, or another status than 200.
    Failed(String),
    /// What came is no answer.
    Unusable(String),
}

async fn fetch(
    client: &Rc<dyn HttpClient>,
    api: &ApiSource,
    kind: ResourceType,
    request: &DiscoveryRequest,
) -> Result<DiscoveryResponse, NotFetched> {
    let cluster = api.clusters.first().cloned().unwrap_or_default();
    let mut headers = HeaderMap::new();
    headers.append_known(Known::METHOD, b"POST");
    headers.append_known(Known::PATH, kind.rest_path().as_bytes());
    headers.append_known(Known::AUTHORITY, cluster.as_bytes());
    headers.append_known(Known::SCHEME, b"http");
    headers.append_known(Known::CONTENT_TYPE, b"application/json");
    let mut body = String::new();
    if let Some(message) = Schema::message(&DiscoveryRequest::full_name()) {
        write_message(&mut body, &request.encode_to_vec(), message, JsonOptions::default());
    }
    let request = ClientRequest {
        cluster,
        headers,
        body: body.into(),
        timeout: Some(api.request_timeout),
        max_response_bytes: MAX_ANSWER,
    };
    let response = client.send(request).await.map_err(|error| NotFetched::Failed(error.to_string()))?;
    match response.status() {
        200 => {}
        status => return Err(NotFetched::Failed(format!("HTTP status {status}"))),
    }
    let source = Source { name: "the answer".into(), bytes: response.body.to_vec(), format: Format::Json };
    let options = LoadOptions { allow_unknown: true, skip_validation: true };
    let loaded = load(&[source], &DiscoveryResponse::full_name(), &options);
    if loaded.diagnostics.has_errors() {
        return Err(NotFetched::Unusable(loaded.diagnostics.to_string().trim_end().replace('\n', "; ")));
    }
    DiscoveryResponse::decode(&loaded.wire[..]).map_err(|error| NotFetched::Unusable(error.to_string()))
}

/// Hands an answer over; its version, if it was accepted.
fn take(subscription: &Rc<Subscription>, kind: ResourceType, response: DiscoveryResponse) -> Option<String> {
    let mut resources = Vec::with_capacity(response.resources.len());
    for any in response.resources {
        match Resource::of_any(any, kind, &response.version_info) {
            Ok(resource) => resources.push(Rc::new(resource)),
            Err(reason) => {
                tracing::warn!(target: "config", "{} refused: {reason}", kind.message());
                subscription.failed(Failure::Rejected);
                return None;
            }
        }
    }
    let is_complete = kind.is_complete();
    let update = Update { version: &response.version_info, is_complete, resources: &resources, removed: &[] };
    match subscription.update(&update) {
        Ok(()) => Some(response.version_info),
        Err(reason) => {
            tracing::warn!(target: "config", "{} refused: {reason}", kind.message());
            None
        }
    }
}
