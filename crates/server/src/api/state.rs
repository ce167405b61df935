//! `/healthz`, `/readyz` and `/metrics`. The first two say nothing but the state.

use countersign_protocol::error::{ErrorCode, NO_SUCH_PATH};
use http::HeaderValue;

use crate::call::Call;
use crate::reply::{Answer, ApiError, answer};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const OPENMETRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

pub(crate) const HEALTHZ: &str = "State: Is the process alive?

Says that the process answers, and nothing else.

- 200: It is. `ok`
";

/// The process answers.
pub(crate) fn healthz() -> Result<Answer, ApiError> {
    Ok(answer(200, TEXT, "ok\n".into()))
}

pub(crate) const READYZ: &str = "State: Can it do its work?

Says whether the store can be read and written. Route no requests here while it cannot.

- 200: It can. `ready`
- 503: Not now: the store does not answer, or the authority is overloaded. `not ready`
";

/// The store can be read and written, now or a second ago.
pub(crate) async fn readyz(call: &Call<'_>) -> Result<Answer, ApiError> {
    match call.app.authority.check().await {
        Ok(()) => Ok(answer(200, TEXT, "ready\n".into())),
        Err(error) => {
            tracing::warn!(%error, "not ready");
            Ok(answer(503, TEXT, "not ready\n".into()))
        }
    }
}

/// The counters. A request that came through a proxy came from elsewhere, and for it the path does not exist.
pub(crate) fn metrics(call: &Call<'_>) -> Result<Answer, ApiError> {
    if ["forwarded", "x-forwarded-for"]
        .iter()
        .any(|name| call.headers.contains_key(*name))
    {
        return Err(ApiError::saying(ErrorCode::ResourceNotFound, NO_SUCH_PATH));
    }
    let page = call.app.metrics.page(&call.app.authority);
    Ok(answer(200, OPENMETRICS, page.into()))
}
