//! `/explain`: where a request would go.

use weir_admin_api::{ExplainQuery, Explained};
use weir_snapshot::explain::SampleRequest;

use super::{problem::Refusal, serve::Call};

pub(super) async fn get(call: Call<(), ExplainQuery, ()>) -> Result<Explained, Refusal> {
    let ExplainQuery { method, url, header, client } = call.query;
    let request = SampleRequest::read(method.as_deref().unwrap_or("GET"), &url, &header, client.as_deref());
    Ok(call.app.explain(&request.map_err(Refusal::bad_request)?))
}
