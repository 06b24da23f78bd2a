//! `weir version`.

use serde::Deserialize;
use serde_json::json;
use weir_admin_api::operations;

use crate::{
    arguments::{Global, Output},
    client::{Call, Client},
    connection::Connection,
    output::{print, print_value, shown, tell},
    usage::Flags,
};

const CLIENT: &str = env!("CARGO_PKG_VERSION");

/// The part of the OpenAPI document that holds the control plane's version.
#[derive(Deserialize)]
struct Document {
    info: Info,
}

#[derive(Deserialize)]
struct Info {
    version: String,
}

/// Shows both versions. An unreachable control plane is not an error, because the client's version is still shown.
pub(crate) async fn run(
    output: Output,
    is_client_only: bool,
    global: &Global,
    flags: Flags,
) -> anyhow::Result<()> {
    let server = match is_client_only {
        true => None,
        false => Some(ask(&Connection::resolve(global, flags)?).await),
    };
    let version = server.as_ref().and_then(|answer| answer.as_ref().ok());
    match output.is_for_people() {
        true => {
            print(&format!("weir           {CLIENT}"));
            if let Some(version) = version {
                print(&format!("control plane  {}", shown(version)));
            }
        }
        false => print_value(output, &json!({ "client": CLIENT, "control_plane": version })),
    }
    if let Some(Err(error)) = server {
        tell!("control plane: {}", error.to_string().lines().next().unwrap_or_default());
    }
    Ok(())
}

async fn ask(connection: &Connection) -> anyhow::Result<String> {
    let call = Call::of(&operations::GET_OPENAPI, &(), &()).reads::<Document>();
    Ok(Client::new(connection)?.call(call).await?.read()?.info.version)
}
