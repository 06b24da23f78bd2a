//! The gRPC service `Enrollment`, by which a process becomes a node.

use tonic::{Request, Response, Status};
use weir_proto::v1::{self, enrollment_server};

use super::nodes::{NodePeer, NodesGate};
use crate::{
    access::{
        ca::Issued,
        nodes::{JoinError, Joiner},
    },
    publish::NodeIdentity,
    time::now_ms,
};

/// Issues certificates to nodes.
pub(super) struct Enrollment {
    gate: NodesGate,
}

impl Enrollment {
    pub(super) fn new(gate: NodesGate) -> Self {
        Self { gate }
    }

    fn answer(&self, issued: Issued) -> Response<v1::JoinResponse> {
        let expires_in_ms = u64::try_from(issued.expires_ms - now_ms()).unwrap_or_default();
        let authority = self.gate.nodes.ca().certificate().to_vec();
        Response::new(v1::JoinResponse { certificate: issued.certificate, authority, expires_in_ms })
    }
}

fn refuse(error: JoinError) -> Status {
    match error {
        JoinError::NotThere | JoinError::Ended(..) => Status::unauthenticated(error.to_string()),
        JoinError::Revoked(_) | JoinError::Bound(..) => Status::permission_denied(error.to_string()),
        JoinError::Taken(_) => Status::already_exists(error.to_string()),
        JoinError::Invalid(why) => Status::invalid_argument(why),
        JoinError::Store(_) | JoinError::Ca(_) => {
            tracing::error!(%error, "cannot issue a certificate to a node");
            Status::internal("the control plane cannot issue a certificate now")
        }
    }
}

#[tonic::async_trait]
impl enrollment_server::Enrollment for Enrollment {
    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        let peer = request.extensions().get::<NodePeer>().cloned();
        let peer = peer.ok_or_else(|| Status::internal("the peer of this connection is unknown"))?;
        let v1::JoinRequest { token, node_id, public_key, boot_id } = request.into_inner();
        let is_taken = self.gate.registry.is_taken(&node_id, &boot_id);
        let gate = self.gate.clone();
        // A node that disconnects stops neither its admission nor the audit entry.
        let joining = async move {
            let joiner = Joiner { node_id: &node_id, public_key: &public_key, is_taken };
            match gate.nodes.join(&token, joiner).await {
                Ok(issued) => {
                    tracing::info!(node = node_id, address = %peer.address, "node joined");
                    gate.joined(peer.address, &node_id, None).await;
                    Ok(issued)
                }
                Err(error) => {
                    let status = refuse(error);
                    gate.joined(peer.address, &node_id, Some(&status)).await;
                    Err(status)
                }
            }
        };
        Ok(self.answer(self.gate.access.detached().run(joining).await?))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        let Some(NodeIdentity::Member(member)) = request.extensions().get::<NodeIdentity>().cloned() else {
            return Err(Status::unauthenticated("a node certificate is required; join first"));
        };
        let issued =
            self.gate.nodes.renew(&member, &request.into_inner().public_key).await.map_err(refuse)?;
        tracing::info!(node = member.node_id, "node certificate renewed");
        Ok(self.answer(issued))
    }
}
