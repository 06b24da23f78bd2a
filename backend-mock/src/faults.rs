//! Simulated capacity and errors, changed while the mock runs: `PUT /faults {"concurrency": 8, "service_time":
//! "20ms", "error_rate": 0.5}`.
//!
//! With a concurrency of N and a service time of T the mock serves N/T requests per second; others wait in a queue,
//! as they do at a real backend.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use weir_snapshot::units::HumanDuration;

use crate::{Shop, problem};

/// Simulated capacity and errors; none by default.
#[derive(Debug, Clone, Default, PartialEq, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Requests that are processed at the same time; others wait [default: no limit].
    #[arg(long, env = "WEIR_MOCK_CONCURRENCY")]
    pub concurrency: Option<usize>,
    /// Duration of each request, such as 20ms.
    #[arg(long, env = "WEIR_MOCK_SERVICE_TIME", default_value = "0s")]
    pub service_time: HumanDuration,
    /// Share of requests that are answered with 500, from 0 to 1.
    #[arg(long, env = "WEIR_MOCK_ERROR_RATE", default_value = "0")]
    pub error_rate: f64,
}

/// A fault setting is out of bounds.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FaultError {
    #[error("concurrency: {0} is out of bounds (1 to {max})", max = Semaphore::MAX_PERMITS)]
    Concurrency(usize),
    #[error("error_rate: {0} is out of bounds (0 to 1)")]
    ErrorRate(f64),
}

impl Faults {
    pub(crate) fn check(&self) -> Result<(), FaultError> {
        match self.concurrency {
            Some(n) if !(1..=Semaphore::MAX_PERMITS).contains(&n) => return Err(FaultError::Concurrency(n)),
            _ => {}
        }
        if (0.0..=1.0).contains(&self.error_rate) {
            Ok(())
        } else {
            Err(FaultError::ErrorRate(self.error_rate))
        }
    }
}

/// A simulated error.
pub(crate) struct OnDemand;

/// Limits the requests that are processed at the same time.
pub(crate) struct Gate {
    /// False if no fault is set: then the lock below need not be taken.
    armed: AtomicBool,
    setting: RwLock<Setting>,
}

#[derive(Clone)]
struct Setting {
    faults: Faults,
    places: Option<Arc<Semaphore>>,
}

impl Gate {
    pub(crate) fn new(faults: Faults) -> Self {
        let setting = Setting { faults: Faults::default(), places: None };
        let gate = Self { armed: AtomicBool::new(false), setting: RwLock::new(setting) };
        gate.set(faults);
        gate
    }

    fn set(&self, faults: Faults) {
        let armed = faults != Faults::default();
        let places = faults.concurrency.map(|n| Arc::new(Semaphore::new(n)));
        // Waiting requests continue with the previous semaphore.
        *self.setting.write().unwrap_or_else(PoisonError::into_inner) = Setting { faults, places };
        self.armed.store(armed, Ordering::Release);
    }

    fn setting(&self) -> Setting {
        self.setting.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a permit and then for the service time.
    pub(crate) async fn enter(&self) -> Result<Option<OwnedSemaphorePermit>, OnDemand> {
        if !self.armed.load(Ordering::Acquire) {
            return Ok(None);
        }
        let Setting { faults, places } = self.setting();
        let place = match places {
            Some(places) => places.acquire_owned().await.ok(),
            None => None,
        };
        if !faults.service_time.0.is_zero() {
            tokio::time::sleep(faults.service_time.0).await;
        }
        if fastrand::f64() < faults.error_rate { Err(OnDemand) } else { Ok(place) }
    }
}

pub(crate) async fn read(State(shop): State<Arc<Shop>>) -> Json<Faults> {
    Json(shop.faults.setting().faults)
}

pub(crate) async fn write(
    State(shop): State<Arc<Shop>>,
    body: Result<Json<Faults>, JsonRejection>,
) -> Response {
    let faults = match body {
        Ok(Json(faults)) => faults,
        Err(rejection) => return problem(rejection.status(), &rejection.body_text()),
    };
    if let Err(error) = faults.check() {
        return problem(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string());
    }
    tracing::info!(?faults, "faults set");
    shop.faults.set(faults.clone());
    Json(faults).into_response()
}
