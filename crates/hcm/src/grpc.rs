//! gRPC calls to services that the proxy itself uses.

use bytes::Bytes;
use nuncio_filter::grpc::{GrpcError, GrpcService, answer, frame};
use nuncio_filter::{ClientRequest, HttpClient, Worker};
use std::rc::Rc;

/// Most bytes of an answer.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// Makes a unary call: `message` to `path` (`/package.Service/Method`), again as often as the service's policy says. The time
/// limit is that of each try.
pub async fn unary(
    client: &Rc<dyn HttpClient>,
    worker: &Rc<Worker>,
    service: &GrpcService,
    path: &str,
    message: &[u8],
) -> Result<Bytes, GrpcError> {
    let body = frame(message);
    let mut tried = 0;
    loop {
        let request = ClientRequest {
            cluster: service.cluster.clone(),
            headers: service.head(path),
            body: body.clone(),
            timeout: service.timeout,
            max_response_bytes: MAX_ANSWER,
        };
        let outcome = match client.send(request).await {
            Ok(response) => answer(&response),
            Err(error) => Err(error.into()),
        };
        match outcome {
            Err(error) if error.is_transient() && tried < service.retry.retries => {
                tried += 1;
                tokio::time::sleep(service.retry.wait(tried, worker.random())).await;
            }
            outcome => return outcome,
        }
    }
}
