// SPDX-License-Identifier: Apache-2.0
// Fills in one of each kind of interface, asks for their type support, and prints one.
#include <iostream>
#include <rosidl_typesupport_cpp/message_type_support.hpp>
#include <rosidl_typesupport_cpp/service_type_support.hpp>

#include "vljepa_ros/action/watch.hpp"
#include "vljepa_ros/msg/text_event.hpp"
#include "vljepa_ros/srv/query.hpp"

int main()
{
  vljepa_ros::msg::TextEvent event;
  event.header.frame_id = "camera";
  event.state = vljepa_ros::msg::TextEvent::STATE_ENDED;
  event.start.sec = 1;
  event.segment_id = 7;
  event.text = "the robot opens the drawer";
  event.confidence = 0.5f;
  event.alternatives.emplace_back();

  vljepa_ros::srv::Query::Request request;
  request.candidates = {"yes", "no"};
  vljepa_ros::action::Watch::Goal goal;
  goal.condition = "the drawer is open";

  const bool supported =
    rosidl_typesupport_cpp::get_message_type_support_handle<vljepa_ros::msg::TextEvent>() &&
    rosidl_typesupport_cpp::get_service_type_support_handle<vljepa_ros::srv::Query>();
  std::cout << vljepa_ros::msg::to_yaml(event) << "\n";
  return supported && request.candidates.size() == 2 && !goal.until_not ? 0 : 1;
}
