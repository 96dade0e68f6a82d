"""The English words that the base is pretrained on."""

from itertools import product

from generator.words import Lexicon, parse_attributes, parse_entities


def _pairs(heads: str, tails: str) -> tuple[str, ...]:
    return tuple(f"{a} {b}" for a, b in product(heads.split(), tails.split()))


def _list(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(","))


_POOLS = {
    "people": _pairs(
        "Alice Brian Carol David Emma Frank Grace Henry Irene Jack Karen Liam Megan Noah Owen "
        "Paula Quinn Rose Steve Tracy",
        "Smith Jones Brown Taylor Wilson Clark Walker Young King Wright Hill Green",
    ),
    "titles": _pairs(
        "Silent Golden Broken Hidden Lost Bright Frozen Last",
        "River Garden Road Night Harbor Mirror Forest Promise Winter",
    ),
    "products": _pairs(
        "Lamp Chair Mug Bag Shirt Bottle Table Watch Knife Desk Pan",
        "Max Pro Lite Plus Nova Eco One Classic",
    ),
    "companies": _pairs(
        "North Blue Silver Oak River Summit Bright", "House Works Group Labs Market Lodge Studio"
    ),
    "cities": _list(
        "London, Paris, Boston, Denver, Oslo, Madrid, Dublin, Austin, Berlin, Tokyo, Lisbon, "
        "New York, Cape Town, San Diego"
    ),
    "countries": _list("France, Spain, Canada, Brazil, Japan, Kenya, Norway, India, Peru, Egypt"),
    "colors": _list("red, blue, green, yellow, black, white, gray, purple, orange, brown"),
    "categories": _list("basic, premium, kids, classic, imported, sports, digital, organic, used"),
    "statuses": _list("active, inactive, pending, approved, cancelled, closed, open, delayed"),
    "jobs": _list("doctor, teacher, driver, painter, lawyer, cook, dentist, nurse, clerk"),
    "materials": _list("wood, glass, plastic, cotton, leather, iron, paper, wool"),
    "languages": _list("English, French, Spanish, German, Italian, Greek, Arabic"),
    "departments": _list("sales, finance, marketing, legal, support, research, security"),
    "genres": _list("drama, comedy, horror, romance, fantasy, thriller, western"),
    "seasons": _list("spring, summer, autumn, winter"),
}

_ENTITIES = """
book:books:m:t
product:products:m:t
car:cars:m:t
movie:movies:m:t
album:albums:m:t
game:games:m:t
phone:phones:m:t
toy:toys:m:t
medicine:medicines:m:t
shoe:shoes:m:t
wine:wines:m:t
painting:paintings:m:t
computer:computers:m:t
machine:machines:m:t
bicycle:bicycles:m:t
plant:plants:m:t
recipe:recipes:m:t
magazine:magazines:m:t
song:songs:m:t
tool:tools:m:t
item:items:m:t
vehicle:vehicles:m:t
customer:customers:m:p
student:students:m:p
teacher:teachers:m:p
doctor:doctors:m:p
employee:employees:m:p
author:authors:m:p
seller:sellers:m:p
driver:drivers:m:p
player:players:m:p
actor:actors:m:p
singer:singers:m:p
patient:patients:m:p
member:members:m:p
supplier:suppliers:m:p
user:users:m:p
person:people:m:p
hotel:hotels:m:l
museum:museums:m:l
hospital:hospitals:m:l
restaurant:restaurants:m:l
park:parks:m:l
airport:airports:m:l
bank:banks:m:l
team:teams:m:l
school:schools:m:l
store:stores:m:l
company:companies:m:l
factory:factories:m:l
farm:farms:m:l
library:libraries:m:l
city:cities:m:l
branch:branches:m:l
order:orders:m:e
event:events:m:e
course:courses:m:e
contract:contracts:m:e
project:projects:m:e
flight:flights:m:e
exam:exams:m:e
payment:payments:m:e
concert:concerts:m:e
sale:sales:m:e
purchase:purchases:m:e
visit:visits:m:e
trip:trips:m:e
match:matches:m:e
delivery:deliveries:m:e
meeting:meetings:m:e
"""

_ATTRIBUTES = """
name:names:m:text:p:*people
name:names:m:text:l:*companies
name:names:m:text:t:*products
title:titles:m:text:te:*titles
manager:managers:m:text:le:people
city:cities:m:text:ple:cities
country:countries:m:text:plt:countries
color:colors:m:text:t:colors
category:categories:m:text:tle:categories
status:statuses:m:text:pte:statuses
job:jobs:m:text:p:jobs
material:materials:m:text:t:materials
language:languages:m:text:pte:languages
department:departments:m:text:pe:departments
genre:genres:m:text:t:genres
season:seasons:m:text:te:seasons
age:ages:m:integer:p:16-90
year:years:m:integer:tle:1950-2024
quantity:quantities:m:integer:te:1-300
stock:stocks:m:integer:t:0-500
duration:durations:m:integer:te:5-240
capacity:capacities:m:integer:le:20-9000
number of rooms:numbers of rooms:m:integer:l:3-800
score:scores:m:integer:pe:0-120
number of floors:numbers of floors:m:integer:l:1-40
page count:page counts:m:integer:te:20-900
distance:distances:m:integer:e:2-3000
level:levels:m:integer:p:0-30
price:prices:m:real:te:5-900
unit price:unit prices:m:real:te:1-400
weight:weights:m:real:tp:1-120
height:heights:m:real:tpl:1-60
salary:salaries:m:real:p:1400-15000
amount:amounts:m:real:te:10-5000
discount:discounts:m:real:te:1-50
rating:ratings:m:real:tpl:0-10
area:areas:m:real:l:20-900
balance:balances:m:real:p:0-8000
delivery fee:delivery fees:m:real:le:3-60
birth date:birth dates:m:date:p:1950-2008
purchase date:purchase dates:m:date:te:2018-2024
start date:start dates:m:date:le:2010-2024
deadline:deadlines:m:date:te:2021-2026
"""

ENGLISH_LEXICON = Lexicon(parse_entities(_ENTITIES), parse_attributes(_ATTRIBUTES, _POOLS))
