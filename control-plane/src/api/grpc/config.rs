//! The configuration as a whole.

use std::time::Duration;

use tonic::Status;
use weir_proto::v1;
use weir_snapshot::{
    Problem,
    diff::{self, Action},
    file,
};

use super::{
    failure::Answer,
    names::Named as _,
    values::{duration_of, value},
};
use crate::{
    access::trail,
    app::{App, AppError, Applied, ApplyOptions, Author},
};

/// The longest that a call waits for the nodes.
const MAX_WAIT: Duration = Duration::from_secs(300);

pub(super) async fn get_config(app: &App, _: v1::GetConfigRequest) -> Answer<v1::GetConfigResponse> {
    let shown = app.shown();
    Ok(v1::GetConfigResponse { revision: shown.revision(), config_yaml: file::to_yaml(&shown.config()) })
}

pub(super) async fn apply_config(
    app: &App,
    author: &Author,
    request: v1::ApplyConfigRequest,
) -> Answer<v1::AppliedConfig> {
    let v1::ApplyConfigRequest { config_yaml, dry_run, wait, .. } = request;
    if dry_run {
        trail::dry_run();
    }
    let options = ApplyOptions { dry_run, wait: waits(wait)? };
    applied(app.apply(author, &config_yaml, options).await?)
}

pub(super) async fn reload_config(
    app: &App,
    author: &Author,
    _: v1::ReloadConfigRequest,
) -> Answer<v1::AppliedConfig> {
    match app.reload(author).await? {
        Some(done) => applied(done),
        None => Err(AppError::Conflict("the control plane was started without --config".into()).into()),
    }
}

/// The time to wait for the nodes. A duration of zero means not to wait.
pub(super) fn waits(wait: Option<prost_types::Duration>) -> Result<Option<Duration>, AppError> {
    let wait = duration_of("wait", wait)?.filter(|wait| !wait.is_zero());
    Ok(wait.map(|wait| wait.min(MAX_WAIT)))
}

/// The result of replacing the configuration. It is an error when nodes do not run it in time.
pub(super) fn applied(applied: Applied) -> Answer<v1::AppliedConfig> {
    let differences = applied.differences().into_iter().map(difference).collect();
    let Applied { revision, changes, warnings, rollout, replaced, .. } = applied;
    let active_nodes = match rollout {
        Some(rollout) if !rollout.complete => {
            let missing =
                rollout.rejected.iter().chain(&rollout.pending).cloned().collect::<Vec<_>>().join(", ");
            let message = format!("revision {revision} is stored, but not active on all nodes: {missing}");
            return Err(Status::deadline_exceeded(message).into());
        }
        Some(rollout) => rollout.active,
        None => Vec::new(),
    };
    let warnings = warnings.into_iter().map(problem).collect();
    Ok(v1::AppliedConfig { revision, changes, warnings, differences, replaced, active_nodes })
}

pub(super) fn problem(Problem { path, message, .. }: Problem) -> v1::Problem {
    v1::Problem { path, message }
}

pub(super) fn difference(difference: diff::Difference) -> v1::Difference {
    let field = |field: diff::Field| v1::FieldDifference {
        path: field.path,
        before: Some(value(&field.before)),
        after: Some(value(&field.after)),
    };
    let action = match difference.action {
        Action::Add => v1::DifferenceAction::Add,
        Action::Remove => v1::DifferenceAction::Remove,
        Action::Change => v1::DifferenceAction::Change,
        Action::Move => v1::DifferenceAction::Move,
    };
    v1::Difference {
        action: action.into(),
        kind: v1::ResourceKind::of(&difference.kind.to_string()),
        name: difference.name,
        text: difference.text,
        fields: difference.fields.into_iter().map(field).collect(),
        before: Some(value(&difference.before)),
        after: Some(value(&difference.after)),
    }
}
