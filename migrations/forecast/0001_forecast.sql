-- Demand of each product by day, and what it is forecast to be.
--
-- Run by the owner role with search_path = forecast; the role fn_forecast may read and write the rows.

-- What is known of an order, one row for each order that was heard of. Its events come in any order, and a cancellation or a
-- refund takes back what the confirmation added, so the lines are kept.
CREATE TABLE known_order (
    order_id    uuid PRIMARY KEY,
    -- The highest order version seen: events of a lower or equal one have no effect.
    version     bigint NOT NULL,
    stage       text NOT NULL CHECK (stage IN ('OPEN', 'CONFIRMED', 'ENDED')),
    -- The day of its creation in UTC, units by SKU, minor units of money; null until order.created arrives.
    day         date,
    lines       jsonb,
    total       bigint,
    -- Minor units of money that have gone back in all.
    refunded    bigint NOT NULL,
    CONSTRAINT placed_as_a_whole CHECK (num_nulls(day, lines, total) IN (0, 3))
)
-- Each row is updated once or twice soon after it was inserted.
WITH (fillfactor = 80);

-- Units of a product that were ordered on a day, in UTC, by orders that are confirmed. No row: none.
CREATE TABLE demand (
    -- Compared and locked byte by byte: collation "C" is the same in every session and database.
    sku         text COLLATE "C" NOT NULL,
    day         date NOT NULL,
    -- No check that it is not negative: an upsert checks what is added before it is added, and that may be given back.
    units       bigint NOT NULL,
    -- Somebody was refused for want of stock, so the units are less than the demand.
    short       boolean NOT NULL DEFAULT false,
    PRIMARY KEY (sku, day)
)
-- A popular product's day is rewritten with every batch.
WITH (fillfactor = 50);

-- Each product with demand.
CREATE TABLE series (
    sku                     text COLLATE "C" PRIMARY KEY,
    -- The day that it was last forecast on, in UTC.
    forecast_on             date NOT NULL DEFAULT '-infinity',
    -- Days until ordered goods arrive, and in how many percent of the cases the stock is to last until then.
    lead_time_days          integer NOT NULL DEFAULT 7 CHECK (lead_time_days BETWEEN 0 AND 27),
    service_level_percent   integer NOT NULL DEFAULT 95 CHECK (service_level_percent BETWEEN 50 AND 99)
);

-- A tick takes those that were forecast the longest ago.
CREATE INDEX series_due ON series (forecast_on, sku);

-- Stock as inventory's last event about the product told it.
CREATE TABLE stock (
    sku         text COLLATE "C" PRIMARY KEY,
    on_hand     bigint NOT NULL,
    reserved    bigint NOT NULL,
    -- Milliseconds since 1970 in that event's id: events of different partitions come in any order.
    as_of       bigint NOT NULL
)
WITH (fillfactor = 50);

-- The last forecast of a product.
CREATE TABLE forecast (
    sku             text COLLATE "C" PRIMARY KEY,
    -- Its first day, in UTC.
    begins          date NOT NULL,
    made_at         timestamptz NOT NULL DEFAULT now(),
    -- Order when so many units or fewer are available, so many that there are order_up_to.
    reorder_point   bigint NOT NULL,
    order_up_to     bigint NOT NULL,
    -- Model, errors, units and intervals of each day.
    plan            jsonb NOT NULL
);
