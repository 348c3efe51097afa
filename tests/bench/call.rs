//! One call, ready to be sent: everything that the client can do before the clock starts is done here. Pure, tested by `tests/it`.

use bytes::{BufMut, Bytes, BytesMut};
use countersign::proto::istio::IstioCertificateRequest;
use http::HeaderValue;
use prost::Message;

/// A token and a CSR in the form in which they go out. Used once.
#[derive(Clone)]
pub struct Call {
    /// `Bearer …`.
    pub authorization: HeaderValue,
    /// The gRPC message with its prefix.
    pub message: Bytes,
}

impl Call {
    /// Encodes a call.
    pub fn new(token: &str, csr_pem: String) -> Result<Self, http::header::InvalidHeaderValue> {
        let request = IstioCertificateRequest {
            csr: csr_pem,
            ..IstioCertificateRequest::default()
        };
        let length = request.encoded_len();
        let mut message = BytesMut::with_capacity(5 + length);
        message.put_u8(0);
        message.put_u32(length as u32);
        message.put_slice(&request.encode_to_vec());
        Ok(Self {
            authorization: HeaderValue::try_from(format!("Bearer {token}"))?,
            message: message.freeze(),
        })
    }
}

/// The protobuf message inside the one gRPC message of a body.
pub fn decode<M: Message + Default>(body: &[u8]) -> Option<M> {
    let ([0, a, b, c, d], message) = body.split_first_chunk()? else {
        return None;
    };
    (u32::from_be_bytes([*a, *b, *c, *d]) as usize == message.len()).then(|| M::decode(message).ok())?
}
