-- The prices of the demo catalogue (docs/decisions/0001-catalogue.md), in minor units.
--
-- fnhost runs this once, as the owner role, with search_path = orders.

INSERT INTO price (sku, amount, currency) VALUES
    ('COFFEE-1KG', 1890, 'EUR'),
    ('TEA-250G', 1250, 'EUR'),
    ('MUG-BLUE', 990, 'EUR'),
    ('MUG-RED', 990, 'EUR'),
    ('KETTLE', 4900, 'EUR'),
    ('GRINDER', 12900, 'EUR'),
    ('PRESS', 3450, 'EUR'),
    ('FILTERS-100', 490, 'EUR'),
    ('SCALE', 2790, 'EUR'),
    ('LAST-TEN', 8900, 'EUR'),
    ('OUT-OF-STOCK', 64900, 'EUR'),
    ('MOON', 900000000000000000, 'EUR')
ON CONFLICT (sku) DO NOTHING;
