//! backend-mock
