//! The demo's HTTP origin: a few files on loopback.

use std::{collections::HashMap, io, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, Uri, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use tokio::net::TcpListener;

/// Files by the path of their URL, with their media type.
pub(super) type Files = HashMap<String, (&'static str, Bytes)>;

/// Serves the files for as long as the process lives; the answer is the origin's URL.
pub(super) async fn start(files: Files) -> io::Result<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let routes = Router::new().fallback(serve).with_state(Arc::new(files));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(url)
}

async fn serve(State(files): State<Arc<Files>>, uri: Uri) -> Response {
    match files.get(uri.path()) {
        Some((content_type, bytes)) => {
            ([(CONTENT_TYPE, *content_type)], bytes.clone()).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
