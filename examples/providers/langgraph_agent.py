"""A graph of LangGraph: a model that calls tools."""

import os
from typing import Annotated, Any

from fastapi import Body, FastAPI, Response
from langchain_core.messages import BaseMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph  # pyright: ignore[reportMissingTypeStubs]
from langgraph.prebuilt import ToolNode, tools_condition

from tailrace import Tailrace


@tool
async def get_weather(city: str) -> dict[str, object]:
    """The weather in a city."""
    return {"city": city, "temperature": 18}


@tool
async def get_news(city: str) -> str:
    """The news of a city."""
    return f"All is quiet in {city}."


tools = [get_weather, get_news]
chat_model: Any = ChatOpenAI(model=os.environ.get("MODEL", "gpt-5-mini"))
model = chat_model.bind_tools(tools)


async def ask(state: MessagesState) -> dict[str, list[BaseMessage]]:
    """Ask the model."""
    return {"messages": [await model.ainvoke(state["messages"])]}


builder: Any = StateGraph(MessagesState)
builder.add_node("agent", ask)
builder.add_node("tools", ToolNode(tools))
builder.add_edge(START, "agent")
builder.add_conditional_edges("agent", tools_condition)
builder.add_edge("tools", "agent")
graph = builder.compile()

app = FastAPI()
tail = Tailrace()
tail.install(app, "/runs")


@app.post("/chat")
async def chat(question: Annotated[str, Body(embed=True, max_length=4_000)]) -> Response:
    """Answer by a stream of events."""
    asked = {"messages": [("user", question)]}
    return tail.stream(lambda: graph.astream(asked, stream_mode=["messages", "custom", "updates"]))
