//! Routes.

use weir_proto::v1;
use weir_snapshot::config::Route;

use super::{
    config::problem,
    failure::{Answer, in_field},
    given,
    page::page,
    pools::named,
    values::object,
};
use crate::app::{App, AppError, Author, page::Paged};

fn message(route: &Route, revision: u64) -> v1::Route {
    v1::Route { name: route.name.clone(), config: object(route), revision }
}

pub(super) async fn list_routes(app: &App, request: v1::ListRoutesRequest) -> Answer<v1::ListRoutesResponse> {
    let v1::ListRoutesRequest { page_size, page_token, pool } = request;
    let page = page("routes", &[&pool], page_size, &page_token)?;
    let revision = app.current().revision;
    let Paged { items, next } = page.of(app.list_routes(given(pool).as_deref())?, |route| route.name.clone());
    Ok(v1::ListRoutesResponse {
        routes: items.iter().map(|route| message(route, revision)).collect(),
        next_page_token: next.unwrap_or_default(),
        revision,
    })
}

pub(super) async fn get_route(app: &App, request: v1::GetRouteRequest) -> Answer<v1::Route> {
    let shown = app.shown();
    let route = shown.route(&request.name).ok_or_else(|| AppError::not_found("route", &request.name))?;
    Ok(message(&route, shown.revision()))
}

pub(super) async fn put_route(
    app: &App,
    author: &Author,
    request: v1::PutRouteRequest,
) -> Answer<v1::PutRouteResponse> {
    let v1::PutRouteRequest { name, config, .. } = request;
    let route: Route = named("routes[0]", &name, config)?;
    let put = app.put_route(author, route).await;
    let (created, warnings) = put.map_err(|error| in_field("routes", "config", error))?;
    let route = get_route(app, v1::GetRouteRequest { name }).await?;
    Ok(v1::PutRouteResponse {
        route: Some(route),
        created,
        warnings: warnings.into_iter().map(problem).collect(),
    })
}

pub(super) async fn delete_route(
    app: &App,
    author: &Author,
    request: v1::DeleteRouteRequest,
) -> Answer<v1::DeleteRouteResponse> {
    Ok(v1::DeleteRouteResponse { revision: app.delete_route(author, &request.name).await? })
}
