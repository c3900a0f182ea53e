//! The catalogue for everybody, and the stock for those who keep it.

use crate::domain::Stock;
use crate::sql;
use contract::event::Money;
use contract::problem::answer;
use contract::token::{self, Caller, Role};
use fnhost_sdk::http::{Request, Response};
use fnhost_sdk::page::Paging;
use fnhost_sdk::problem::Problem;
use fnhost_sdk::{Host, Row, SqlError, routes};
use serde::{Deserialize, Serialize};

/// Products in an answer where the caller does not say.
pub const PRODUCTS_DEFAULT: i64 = 100;
/// Products in an answer at most.
pub const PRODUCTS_MAX: i64 = 500;
/// Units of a product at most, far from where sums of them could overflow.
pub const ON_HAND_MAX: i64 = 1_000_000_000;

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct Product {
    sku: String,
    name: String,
    price: Money,
    /// Units that can be ordered.
    available: i64,
}

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct Products {
    products: Vec<Product>,
    /// For the parameter `cursor` of the next request; null on the last page.
    next_cursor: Option<String>,
}

#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Stock))]
pub(crate) struct Inventory<'a> {
    sku: &'a str,
    /// Units in the warehouse, the reserved ones included.
    on_hand: i64,
    /// Units promised to orders that are not yet confirmed.
    reserved: i64,
    /// Units that can still be ordered.
    available: i64,
}

#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(crate) struct SetOnHand {
    /// Units in the warehouse, the reserved ones included.
    on_hand: i64,
}

/// Answers a request.
pub async fn handle<H: Host>(host: &H, request: Request) -> Response {
    answer(route(host, &request).await)
}

async fn route(host: &impl Host, request: &Request) -> Result<Response, Problem> {
    // A SKU consists of characters that a path carries unescaped, so one that would need decoding does not exist.
    routes! {
        request, caller: token::caller(host, request);
        ["products"] => GET: products(host, request);
        ["products", sku] => GET: product(host, sku);
        ["inventory", sku] => GET: inventory(host, sku), PUT as caller: set_on_hand(host, request, caller, sku);
        _ => Problem::not_found("no such address");
    }
}

async fn products(host: &impl Host, request: &Request) -> Result<Response, Problem> {
    let paging: Paging<String> = Paging::of(request, PRODUCTS_DEFAULT, PRODUCTS_MAX)?;
    let after = paging.after.clone().unwrap_or_default();
    let rows = sql::products(host, after, paging.rows()).await?;
    let found = rows.iter().map(read).collect::<Result<_, _>>()?;
    let (products, next_cursor) = paging.page(found, |last: &Product| last.sku.clone());
    Ok(Response::json(200, &Products { products, next_cursor }))
}

async fn product(host: &impl Host, sku: &str) -> Result<Response, Problem> {
    let row = sql::product(host, sku).await?.ok_or_else(unknown)?;
    Ok(Response::json(200, &read(&row)?))
}

async fn inventory(host: &impl Host, sku: &str) -> Result<Response, Problem> {
    let stock = sql::stock_of(host, sku).await?.ok_or_else(unknown)?;
    Ok(describe(sku, stock))
}

async fn set_on_hand(
    host: &impl Host,
    request: &Request,
    caller: Caller,
    sku: &str,
) -> Result<Response, Problem> {
    if caller.role != Role::Admin {
        return Err(Problem::forbidden("setting the stock needs the role admin"));
    }
    let SetOnHand { on_hand } = request.json()?;
    if !(0..=ON_HAND_MAX).contains(&on_hand) {
        return Err(Problem::invalid("on_hand", format!("between 0 and {ON_HAND_MAX} units are possible")));
    }
    if let Some(stock) = sql::set_on_hand(host, sku, on_hand).await? {
        return Ok(describe(sku, stock));
    }
    let Stock { reserved, .. } = sql::stock_of(host, sku).await?.ok_or_else(unknown)?;
    Err(Problem::conflict(format!("{reserved} units are reserved for orders")).with_field("on_hand"))
}

pub(crate) fn unknown() -> Problem {
    Problem::not_found("no product has this SKU").with_field("sku")
}

fn describe(sku: &str, stock: Stock) -> Response {
    let Stock { on_hand, reserved } = stock;
    Response::json(200, &Inventory { sku, on_hand, reserved, available: stock.available() })
}

fn read(row: &Row) -> Result<Product, SqlError> {
    Ok(Product {
        sku: row.text(0)?.to_owned(),
        name: row.text(1)?.to_owned(),
        price: Money { amount: row.int64(2)?, currency: row.text(3)?.to_owned() },
        available: row.int64(4)?,
    })
}
