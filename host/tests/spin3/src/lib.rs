//! A component as people wrote it for Spin 3: the HTTP handler of WASI 0.2, and Spin's interfaces of that time.
//!
//! Each path uses one of them and answers with what came of it, as text.

use spin_sdk::http::{Request, Response};
use spin_sdk::key_value::Store;
use spin_sdk::{http_component, pg, pg3, variables};

#[http_component]
async fn handle(request: Request) -> anyhow::Result<Response> {
    let body = match request.path() {
        "/echo" => String::from_utf8_lossy(request.body()).into_owned(),
        "/variable" => variables::get("greeting")?,
        "/file" => std::fs::read_to_string("/site/index.html")?,
        "/write" => format!("{:?}", std::fs::write("/site/index.html", "changed").map_err(|error| error.kind())),
        "/counter" => counter()?,
        "/stores" => format!("{:?}", Store::open("other").err()),
        "/sql3" => sql3(&String::from_utf8_lossy(request.body()))?,
        "/sql2" => sql2(&String::from_utf8_lossy(request.body()))?,
        "/get" => get(&String::from_utf8_lossy(request.body())).await?,
        "/panic" => panic!("asked to panic"),
        _ => return Ok(Response::builder().status(404).build()),
    };
    Ok(Response::builder().status(200).header("content-type", "text/plain").body(body).build())
}

fn counter() -> anyhow::Result<String> {
    let store = Store::open_default()?;
    let count = store.get("count")?.map_or(0, |value| value[0]) + 1;
    store.set("count", &[count])?;
    store.set("other", b"x")?;
    store.delete("other")?;
    let mut keys = store.get_keys()?;
    keys.sort();
    Ok(format!("{count} {keys:?} {}", store.exists("other")?))
}

fn sql3(address: &str) -> anyhow::Result<String> {
    let connection = pg3::Connection::open(address)?;
    let statement = "SELECT $1::int8 + 1, 'x'::text, DATE '2024-02-29', NULL::text, gen_random_uuid()";
    let set = connection.query(statement, &[pg3::ParameterValue::Int64(41)])?;
    let failed = connection.execute("SELECT 1/0", &[]).err();
    Ok(format!("{:?} {:?} {failed:?}", set.columns.last().map(|column| &column.data_type), set.rows))
}

fn sql2(address: &str) -> anyhow::Result<String> {
    let connection = pg::Connection::open(address)?;
    let set = connection.query("SELECT $1::int4 + 1", &[pg::ParameterValue::Int32(41)])?;
    let unsigned = connection.query("SELECT $1", &[pg::ParameterValue::Uint8(1)]).err();
    Ok(format!("{:?} {unsigned:?}", set.rows))
}

async fn get(url: &str) -> anyhow::Result<String> {
    let request = spin_sdk::http::Request::get(url).build();
    match spin_sdk::http::send::<_, Response>(request).await {
        Ok(answer) => Ok(format!("{} {}", answer.status(), String::from_utf8_lossy(answer.body()))),
        Err(error) => Ok(format!("{error:?}")),
    }
}
