//! Handlers of the dashboard's forms. Each calls one use case and redirects to a page that shows the result.

use axum::{
    Form,
    extract::{Path, State},
    http::StatusCode,
    response::Redirect,
};
use serde::Deserialize;
use weir_snapshot::config::{BackendState, UnknownStrategy};

use super::{Page, Trouble};
use crate::{
    api::access::Asking,
    app::{App, AppError, Named},
};

type Done = Result<Redirect, Trouble>;

fn back(page: Page) -> Done {
    Ok(Redirect::to(page.path()))
}

fn wrong(says: impl Into<String>) -> Trouble {
    Trouble { status: StatusCode::BAD_REQUEST, says: says.into() }
}

#[derive(Deserialize)]
pub(super) struct Add {
    url: String,
    pool: String,
    #[serde(default)]
    weight: String,
}

pub(super) async fn add(
    State(app): State<App>,
    Asking(author): Asking,
    Form(Add { url, pool, weight }): Form<Add>,
) -> Done {
    let weight = match weight.trim() {
        "" => None,
        text => Some(text.parse().map_err(|_| wrong(format!("{text:?} is not a weight")))?),
    };
    app.create_backend(&author, url.trim(), Some(&pool), weight).await?;
    back(Page::Pools)
}

#[derive(Deserialize)]
pub(super) struct Update {
    action: String,
}

pub(super) async fn update(
    State(app): State<App>,
    Asking(author): Asking,
    Path(id): Path<String>,
    Form(Update { action }): Form<Update>,
) -> Done {
    let state = match action.as_str() {
        "drain" => BackendState::Draining,
        "disable" => BackendState::Disabled,
        "enable" => BackendState::Active,
        "remove" => {
            app.delete_backend(&author, &Named::Id(id)).await?;
            return back(Page::Pools);
        }
        "check" => {
            app.check_backend(&id).await?;
            return back(Page::Pools);
        }
        other => return Err(wrong(format!("{other:?} is nothing that can be done with a backend"))),
    };
    app.update_backend(&author, &id, None, Some(state)).await?;
    back(Page::Pools)
}

#[derive(Deserialize)]
pub(super) struct Strategy {
    strategy: String,
}

pub(super) async fn strategy(
    State(app): State<App>,
    Asking(author): Asking,
    Path(pool): Path<String>,
    Form(Strategy { strategy }): Form<Strategy>,
) -> Done {
    let strategy = strategy
        .parse()
        .map_err(|error: UnknownStrategy| AppError::invalid("strategy", error.to_string()))?;
    app.set_strategy(&author, &pool, strategy).await?;
    back(Page::Pools)
}

pub(super) async fn rollback(
    State(app): State<App>,
    Asking(author): Asking,
    Path(number): Path<u64>,
) -> Done {
    app.rollback(&author, number, None).await?;
    back(Page::Revisions)
}
