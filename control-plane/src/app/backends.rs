//! Backends: add, update, remove, probe.

use weir_snapshot::{
    BackendUrl,
    config::{Backend, BackendState, Config},
};

use super::{App, AppError, Author};
use crate::health::Finding;

/// The pool that is used if none is named.
const DEFAULT_POOL: &str = "default";

/// How a caller names a backend.
#[derive(Debug, Clone)]
pub enum Named {
    /// By its id.
    Id(String),
    /// By its URL, and by its pool if several pools have the URL.
    Url {
        /// In any equivalent spelling.
        url: String,
        /// Its pool.
        pool: Option<String>,
    },
}

impl App {
    /// Adds a backend.
    ///
    /// # Errors
    /// The URL or weight is invalid, the pool does not exist, or the pool already has that backend.
    pub async fn create_backend(
        &self,
        author: &Author,
        url: &str,
        pool: Option<&str>,
        weight: Option<u32>,
    ) -> Result<weir_admin_api::Backend, AppError> {
        let parsed: BackendUrl = url.parse().map_err(|error: String| AppError::invalid("url", error))?;
        let pool = pool.unwrap_or(DEFAULT_POOL);
        let weight = check_weight(weight.unwrap_or(1))?;
        let (name, wanted) = (pool.to_owned(), parsed.clone());
        let changed = self.change(author, move |config| {
            let found = config.pools.iter_mut().find(|one| one.name == name);
            let found = found.ok_or_else(|| AppError::invalid("pool", format!("unknown pool {name:?}")))?;
            if found.backends.iter().any(|backend| is_at(backend, &wanted)) {
                return Err(AppError::Conflict(format!("backend {wanted} is already in pool {name:?}")));
            }
            found.backends.push(Backend {
                id: String::new(),
                url: wanted.to_string(),
                weight,
                state: BackendState::Active,
            });
            Ok(())
        });
        changed.await?;
        let current = self.current();
        let backends =
            current.config.pools.iter().filter(|one| one.name == pool).flat_map(|pool| &pool.backends);
        let id =
            backends.into_iter().find(|backend| is_at(backend, &parsed)).map(|backend| backend.id.clone());
        // A concurrent call may already have removed it.
        self.backend(&id.ok_or_else(|| AppError::not_found("backend", url))?)
    }

    /// Changes a backend's weight or state.
    ///
    /// # Errors
    /// The backend does not exist, or a value is invalid.
    pub async fn update_backend(
        &self,
        author: &Author,
        id: &str,
        weight: Option<u32>,
        state: Option<BackendState>,
    ) -> Result<weir_admin_api::Backend, AppError> {
        let weight = weight.map(check_weight).transpose()?;
        let wanted = id.to_owned();
        let changed = self.change(author, move |config| {
            let mut all = config.pools.iter_mut().flat_map(|pool| &mut pool.backends);
            let backend = all.find(|backend| backend.id == wanted);
            let backend = backend.ok_or_else(|| AppError::not_found("backend", &wanted))?;
            backend.weight = weight.unwrap_or(backend.weight);
            backend.state = state.unwrap_or(backend.state);
            Ok(())
        });
        changed.await?;
        self.backend(id)
    }

    /// Removes a backend.
    ///
    /// # Errors
    /// The backend does not exist, or several pools have its URL and none is named.
    pub async fn delete_backend(&self, author: &Author, named: &Named) -> Result<u64, AppError> {
        let named = named.clone();
        let changed = self.change(author, move |config| {
            let id = find(config, &named)?;
            config.pools.iter_mut().for_each(|pool| pool.backends.retain(|backend| backend.id != id));
            Ok(())
        });
        Ok(changed.await?.revision)
    }

    /// Probes a backend now.
    ///
    /// # Errors
    /// The backend does not exist, or it has no health check.
    pub async fn check_backend(&self, id: &str) -> Result<Finding, AppError> {
        self.backend(id)?;
        self.parts.health.check(id).await.ok_or_else(|| {
            AppError::Conflict(format!(
                "backend {id:?} is not probed: it is disabled, or its pool has no health check"
            ))
        })
    }
}

fn check_weight(weight: u32) -> Result<u32, AppError> {
    let max = weir_snapshot::Weight::MAX;
    match weir_snapshot::Weight::new(weight) {
        Some(weight) => Ok(weight.get()),
        None => Err(AppError::invalid(
            "weight",
            format!(
                "weight {weight} is out of bounds (1 to {max}); to take a backend out of service, disable it"
            ),
        )),
    }
}

fn is_at(backend: &Backend, url: &BackendUrl) -> bool {
    backend.url.parse::<BackendUrl>().as_ref() == Ok(url)
}

fn find(config: &Config, named: &Named) -> Result<String, AppError> {
    let all =
        || config.pools.iter().flat_map(|pool| pool.backends.iter().map(move |backend| (pool, backend)));
    match named {
        Named::Id(id) => {
            let found = all().find(|(_, backend)| backend.id == *id);
            found.map(|(_, backend)| backend.id.clone()).ok_or_else(|| AppError::not_found("backend", id))
        }
        Named::Url { url, pool } => {
            let parsed: BackendUrl = url.parse().map_err(|error: String| AppError::invalid("url", error))?;
            if let Some(pool) = pool
                && !config.pools.iter().any(|one| one.name == *pool)
            {
                return Err(AppError::invalid("pool", format!("unknown pool {pool:?}")));
            }
            let wanted = |name: &str| pool.as_deref().is_none_or(|pool| pool == name);
            let found: Vec<_> =
                all().filter(|(pool, backend)| wanted(&pool.name) && is_at(backend, &parsed)).collect();
            match found.as_slice() {
                [] => Err(AppError::not_found("backend", url)),
                [(_, backend)] => Ok(backend.id.clone()),
                several => {
                    let pools: Vec<&str> = several.iter().map(|(pool, _)| pool.name.as_str()).collect();
                    let message =
                        format!("backend {parsed} is in several pools ({}); name one", pools.join(", "));
                    Err(AppError::Conflict(message))
                }
            }
        }
    }
}
